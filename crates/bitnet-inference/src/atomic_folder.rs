//! Folders that are whole or not there.

use std::fs;
use std::path::Path;

use crate::{Error, Result};

/// Makes a folder under a name of its own beside `path`, has it filled, and renames it. When `fill` fails, nothing is
/// left of it.
pub(crate) fn write<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let io = |source| Error::io(path, source);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".partial-{}", std::process::id()));
    let partial = path.with_file_name(name);
    fs::create_dir(&partial).map_err(io)?;
    let filled = fill(&partial).and_then(|filled| {
        fs::rename(&partial, path).map_err(io)?;
        Ok(filled)
    });
    if filled.is_err() {
        // There is nothing to say beyond the first error.
        drop(fs::remove_dir_all(&partial));
    }
    filled
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
