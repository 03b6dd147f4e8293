//! The files of a checkpoint: on disk, or in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bitnet_core::Buffer;
use memmap2::Mmap;

use crate::{Error, Result};

macro_rules! embedded_files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../models/bitnet-tiny/", $name)))),*]
    };
}

const EMBEDDED: &[(&str, &[u8])] = embedded_files![
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Where the files are.
#[derive(Debug)]
pub(super) enum Folder {
    /// A folder of the file system; files are memory-mapped.
    Disk(PathBuf),
    /// Files in memory, under a name for messages.
    Memory { name: PathBuf, files: BTreeMap<String, Buffer> },
}

impl Folder {
    /// The embedded model.
    pub(super) fn embedded() -> Self {
        let file = |(name, bytes): &(&str, &'static [u8])| ((*name).to_owned(), Buffer::from_owner(*bytes));
        let files = EMBEDDED.iter().map(file).collect();
        Self::Memory { name: "bitnet-tiny (embedded)".into(), files }
    }

    /// Name of the folder, for messages.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Disk(path) => path,
            Self::Memory { name, .. } => name,
        }
    }

    /// Name of a file, for messages.
    pub(super) fn file_path(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Names of all files, sorted.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = match self {
            Self::Memory { files, .. } => files.keys().cloned().collect(),
            Self::Disk(path) => std::fs::read_dir(path)
                .and_then(|entries| {
                    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
                })
                .map_err(|source| Error::io(path, source))?,
        };
        names.sort_unstable();
        Ok(names)
    }

    /// The bytes of a file, or `None` when there is no such file.
    pub(super) fn read(&self, name: &str) -> Result<Option<Buffer>> {
        match self {
            Self::Memory { files, .. } => Ok(files.get(name).cloned()),
            Self::Disk(path) => map_file(&path.join(name)),
        }
    }
}

/// The bytes of a file, memory-mapped, or `None` when there is none.
///
/// Errors: [`Error::Io`]; [`Error::Checkpoint`] for what is no regular file.
pub fn map_file(path: &Path) -> Result<Option<Buffer>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io(path, source)),
    };
    let metadata = file.metadata().map_err(|source| Error::io(path, source))?;
    if !metadata.is_file() {
        return Err(Error::checkpoint(path, "is not a regular file"));
    }
    if metadata.len() == 0 {
        return Ok(Some(Buffer::from(Vec::<u8>::new())));
    }
    #[expect(unsafe_code, reason = "memory-mapping a file")]
    // SAFETY: the mapping is read-only and private. A file that another process truncates while it is mapped faults,
    // as it does for every program that maps its input; a file that is rewritten in place gives other bytes, all of
    // which are valid for the plain-data types read from it.
    let map = unsafe { Mmap::map(&file) }.map_err(|source| Error::io(path, source))?;
    Ok(Some(Buffer::from_map(map)))
}
