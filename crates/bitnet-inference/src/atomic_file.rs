//! Files that are whole or not there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// What follows the name of what is being written, in front of the number of the process.
const PARTIAL: &str = ".partial-";

/// Writes a file under a name of its own beside `path`, then renames it. When `fill` fails, what was at `path` stays.
///
/// Errors: [`Error::Io`], and what `fill` says.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let io = |source| Error::io(path, source);
    let (partial, file) = create_partial(path, |partial| File::create_new(partial))?;
    let filled = (|| {
        let mut writer = BufWriter::new(file);
        fill(&mut writer)?;
        let file = writer.into_inner().map_err(|error| io(error.into_error()))?;
        file.sync_all().map_err(io)?;
        fs::rename(&partial, path).map_err(io)
    })();
    if filled.is_err() {
        // There is nothing to say beyond the first error.
        drop(fs::remove_file(&partial));
    }
    filled
}

/// Creates what will be `path`, under the first name that is free: a process that was killed left its own behind, and
/// this one may have its number.
pub(crate) fn create_partial<T>(
    path: &Path,
    create: impl Fn(&Path) -> io::Result<T>,
) -> Result<(PathBuf, T)> {
    let mut attempt = 0_usize;
    loop {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!("{PARTIAL}{}-{attempt}", std::process::id()));
        let partial = path.with_file_name(name);
        match create(&partial) {
            Ok(created) => return Ok((partial, created)),
            Err(error) if is_taken(&error) => attempt += 1,
            Err(error) => return Err(Error::io(path, error)),
        }
    }
}

/// Whether there is something of the name.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty)
}

/// Whether a name is that of a file or folder in the making, or of one whose process was killed.
pub fn is_partial(name: &str) -> bool {
    name.contains(PARTIAL)
}

/// Refuses a destination that is there already, or has no name.
///
/// Errors: [`Error::Io`].
pub fn refuse_existing(path: &Path) -> Result<()> {
    let refuse = |kind, reason| Err(Error::io(path, io::Error::new(kind, reason)));
    if path.file_name().is_none() {
        return refuse(io::ErrorKind::InvalidInput, "has no name to write to");
    }
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(path, error)),
        Ok(_) => refuse(io::ErrorKind::AlreadyExists, "is there already; give a new name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        let mut left = Vec::new();
        for _ in 0..2 {
            let (partial, _) = create_partial(&path, |partial| File::create_new(partial)).unwrap();
            left.push(partial.file_name().unwrap().to_string_lossy().into_owned());
        }
        write(&path, |_| Ok(())).unwrap();
        assert_ne!(left[0], left[1]);
        assert!(left.iter().all(|name| is_partial(name)) && !is_partial("x.gguf"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_failure_leaves_nothing_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        write(&path, |file| file.write_all(b"first").map_err(|source| Error::io("x", source))).unwrap();
        let failed = write(&path, |file| {
            file.write_all(b"second").map_err(|source| Error::io("x", source))?;
            Err(Error::EmptyPrompt)
        });
        assert!(matches!(failed, Err(Error::EmptyPrompt)));
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let missing = write(&folder.path().join("no/x.gguf"), |_| Ok(()));
        assert!(matches!(missing, Err(Error::Io { .. })));
    }
}
