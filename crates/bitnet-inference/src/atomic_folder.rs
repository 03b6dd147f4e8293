//! Folders that are whole or not there.

use std::fs;
use std::path::Path;

use crate::atomic_file::create_partial;
use crate::{Error, Result};

/// Makes a folder under a name of its own beside `path`, has it filled, and renames it. When `fill` fails, nothing is
/// left of it.
///
/// Errors: [`Error::Io`], also for something that is at `path` already, and what `fill` says.
pub fn write<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let io = |source| Error::io(path, source);
    let (partial, ()) = create_partial(path, |partial| fs::create_dir(partial))?;
    let filled = fill(&partial).and_then(|filled| {
        sync(&partial);
        fs::rename(&partial, path).map_err(io)?;
        sync(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")));
        Ok(filled)
    });
    if filled.is_err() {
        // There is nothing to say beyond the first error.
        drop(fs::remove_dir_all(&partial));
    }
    filled
}

/// Removes a folder. While it is being removed it has another name.
///
/// Errors: [`Error::Io`].
pub fn remove(path: &Path) -> Result<()> {
    let (partial, ()) = create_partial(path, |partial| fs::rename(path, partial))?;
    fs::remove_dir_all(partial).map_err(|source| Error::io(path, source))
}

/// Has the names in a folder written to the disk. Not every system can do that, and its files are written in any case.
fn sync(folder: &Path) {
    if cfg!(unix) {
        drop(fs::File::open(folder).and_then(|folder| folder.sync_all()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let failed: Result<()> = write(&path, |partial| {
            fs::write(partial.join("config.json"), "{").unwrap();
            assert!(!path.exists());
            Err(Error::EmptyPrompt)
        });
        assert!(matches!(failed, Err(Error::EmptyPrompt)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_removed_folder_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        for content in ["a", "b"] {
            write(&path, |partial| fs::write(partial.join("x"), content).map_err(|e| Error::io("x", e)))
                .unwrap();
            remove(&path).unwrap();
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
        assert!(matches!(remove(&path), Err(Error::Io { .. })));
    }

    #[test]
    fn what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("mine"), "").unwrap();
        assert!(matches!(write(&path, |_| Ok(())), Err(Error::Io { .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(path.join("mine").exists());
    }
}
