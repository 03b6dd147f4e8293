//! Files that are whole or not there.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::{Error, Result};

/// Writes a file under a name of its own beside `path`, then renames it. When `fill` fails, what was at `path` stays.
pub(crate) fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let io = |source| Error::io(path, source);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".partial-{}", std::process::id()));
    let partial = path.with_file_name(name);
    let filled = File::create_new(&partial).map_err(io).and_then(|file| {
        let mut writer = BufWriter::new(file);
        fill(&mut writer)?;
        let file = writer.into_inner().map_err(|error| io(error.into_error()))?;
        file.sync_all().map_err(io)?;
        fs::rename(&partial, path).map_err(io)
    });
    if filled.is_err() {
        // There is nothing to say beyond the first error.
        drop(fs::remove_file(&partial));
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

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
