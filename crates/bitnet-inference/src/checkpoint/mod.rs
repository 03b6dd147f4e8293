//! Checkpoints: named tensors and what describes them, from a folder, a GGUF file or memory.
//!
//! Everything here treats its input as hostile: sizes, offsets, shapes and names are checked before they are used.

mod folder;
pub(crate) mod gguf;
pub mod safetensors;
mod shards;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitnet_core::{Buffer, Tensor};
use serde::de::DeserializeOwned;

use self::folder::Folder;
pub use self::folder::map_file;
use self::gguf::Gguf;
pub use self::gguf::{Decision, EncodedTernary, GgufOptions};
use self::shards::Weights;
pub(crate) use self::shards::{INDEX, SINGLE};
use crate::{Error, Result};

/// Named tensors, memory-mapped, with what describes them.
#[derive(Debug)]
pub struct Checkpoint {
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Safetensors, with JSON files beside them.
    Folder(Folder, Weights),
    /// Everything in one file.
    Gguf(Box<Gguf>),
}

/// A tensor as a checkpoint stores it.
#[derive(Debug, Clone)]
pub enum Stored {
    /// Numbers, or packed codes of a Hugging Face checkpoint.
    Plain(Tensor),
    /// Ternary weights with their scales, in an encoding of GGUF.
    Encoded(EncodedTernary),
}

impl Stored {
    /// Dimensions.
    pub fn dims(&self) -> Vec<usize> {
        match self {
            Self::Plain(tensor) => tensor.dims().to_vec(),
            Self::Encoded(ternary) => vec![ternary.rows, ternary.cols],
        }
    }

    /// The bytes, as they are stored.
    pub fn data(&self) -> &Buffer {
        match self {
            Self::Plain(tensor) => tensor.data(),
            Self::Encoded(ternary) => &ternary.bytes,
        }
    }

    /// Name of the element type.
    pub fn type_name(&self) -> String {
        match self {
            Self::Plain(tensor) => tensor.dtype().to_string(),
            Self::Encoded(ternary) => ternary.codec.name().to_owned(),
        }
    }
}

impl Checkpoint {
    /// Opens a checkpoint: a Hugging Face folder, `config.json` with one or several safetensors files; a GGUF file; or a
    /// folder that holds one. Of a GGUF file in several parts the first is named, and the others lie beside it.
    ///
    /// Errors: [`Error::ModelNotFound`] when there is nothing at `path`, [`Error::Checkpoint`] and [`Error::Gguf`] for
    /// damaged files.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &GgufOptions::default())
    }

    /// As [`Self::open`]; what a GGUF file leaves open is decided as `options` say.
    ///
    /// Errors: [`Error::InvalidOption`] for options on a checkpoint that is no GGUF file.
    pub fn open_with(path: &Path, options: &GgufOptions) -> Result<Self> {
        if !path.exists() {
            return Err(Error::ModelNotFound { path: path.to_owned() });
        }
        let file = if path.is_file() { Some(path.to_owned()) } else { gguf_in(path)? };
        if let Some(file) = file {
            let bytes = map_file(&file)?.ok_or_else(|| Error::ModelNotFound { path: file.clone() })?;
            if !bytes.starts_with(b"GGUF") && file.extension().is_none_or(|extension| extension != "gguf") {
                return Err(Error::checkpoint(file, "is no GGUF file; of other formats, give the folder"));
            }
            let gguf = Gguf::open(&file, bytes, options)?;
            return Ok(Self { source: Source::Gguf(Box::new(gguf)) });
        }
        if *options != GgufOptions::default() {
            let (expected, got) = ("left out for a model that is no GGUF file", path.display().to_string());
            return Err(Error::InvalidOption { name: "gguf", expected, got });
        }
        Self::read(Folder::Disk(path.to_owned()))
    }

    /// The small trained model that is part of this library: bitnet-tiny, 3.7 million parameters.
    pub fn embedded() -> Result<Self> {
        Self::read(Folder::embedded())
    }

    /// A checkpoint made in memory: its JSON files and its tensors, by their names. `name` is its path in messages.
    pub fn from_memory(
        name: impl Into<PathBuf>,
        files: BTreeMap<String, Buffer>,
        tensors: BTreeMap<String, Tensor>,
    ) -> Self {
        let folder = Folder::Memory { name: name.into(), files };
        Self { source: Source::Folder(folder, shards::from_memory(tensors)) }
    }

    fn read(folder: Folder) -> Result<Self> {
        if folder.read("config.json")?.is_none() {
            return Err(Error::checkpoint(folder.path(), "has no config.json"));
        }
        let weights = shards::read(&folder)?;
        Ok(Self { source: Source::Folder(folder, weights) })
    }

    /// Where the checkpoint came from, for messages.
    pub fn path(&self) -> &Path {
        match &self.source {
            Source::Folder(folder, _) => folder.path(),
            Source::Gguf(gguf) => gguf.contents().path(),
        }
    }

    /// Path of a file of the checkpoint, for messages. A GGUF file is all of its files.
    pub fn file_path(&self, name: &str) -> PathBuf {
        match &self.source {
            Source::Folder(folder, _) => folder.file_path(name),
            Source::Gguf(gguf) => gguf.contents().path().to_owned(),
        }
    }

    /// A tensor by its Hugging Face name.
    ///
    /// Errors: [`Error::Gguf`] for one that cannot be brought into the form of Hugging Face.
    pub fn tensor(&self, name: &str) -> Result<Option<Stored>> {
        match &self.source {
            Source::Folder(_, weights) => {
                Ok(weights.tensors.get(name).map(|stored| Stored::Plain(stored.tensor.clone())))
            }
            Source::Gguf(gguf) => gguf.tensor(name),
        }
    }

    /// Names of all tensors, sorted: those of Hugging Face.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        let (folder, gguf) = match &self.source {
            Source::Folder(_, weights) => (Some(weights.tensors.keys().map(String::as_str)), None),
            Source::Gguf(gguf) => (None, Some(gguf.contents().tensor_names())),
        };
        folder.into_iter().flatten().chain(gguf.into_iter().flatten())
    }

    /// The name of a tensor in its file, for messages.
    pub fn stored_name<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match &self.source {
            Source::Folder(_, weights) if weights.is_bare => {
                Cow::Borrowed(name.strip_prefix("model.").unwrap_or(name))
            }
            Source::Folder(..) => Cow::Borrowed(name),
            Source::Gguf(gguf) => gguf.contents().stored_name(name),
        }
    }

    /// The file that holds a tensor, or that should, for messages.
    pub fn tensor_path(&self, name: &str) -> PathBuf {
        match &self.source {
            Source::Folder(folder, weights) => {
                let stored = weights.tensors.get(name);
                folder.file_path(stored.map_or(weights.entry, |stored| &stored.file))
            }
            Source::Gguf(gguf) => gguf.contents().tensor_path(name).to_owned(),
        }
    }

    /// The format of the files.
    pub fn format(&self) -> String {
        match &self.source {
            Source::Folder(..) => "safetensors".to_owned(),
            Source::Gguf(gguf) => gguf.contents().format(),
        }
    }

    /// What the files left open, and what was made of it.
    pub fn decisions(&self) -> &[Decision] {
        self.gguf().map_or(&[], Gguf::decisions)
    }

    /// The GGUF file, if it is one.
    pub(crate) fn gguf(&self) -> Option<&Gguf> {
        match &self.source {
            Source::Folder(..) => None,
            Source::Gguf(gguf) => Some(gguf),
        }
    }

    /// The bytes of a file, memory-mapped, if the checkpoint has it. A GGUF file has none beside it.
    pub fn file(&self, name: &str) -> Result<Option<Buffer>> {
        match &self.source {
            Source::Folder(folder, _) => folder.read(name),
            Source::Gguf(_) => Ok(None),
        }
    }

    /// A JSON file as `T`, if the checkpoint has it.
    ///
    /// Errors: [`Error::Config`] names the file, line and column.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(bytes) = self.file(name)? else { return Ok(None) };
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| Error::config(self.file_path(name), error.to_string()))?;
        Ok(Some(value))
    }
}

/// The GGUF file of a folder that holds no safetensors.
///
/// Errors: [`Error::Checkpoint`] when it holds several.
fn gguf_in(folder: &Path) -> Result<Option<PathBuf>> {
    let names = Folder::Disk(folder.to_owned()).names()?;
    let is_safetensors =
        |name: &String| Path::new(name).extension().is_some_and(|found| found == "safetensors");
    if names.iter().any(is_safetensors) {
        return Ok(None);
    }
    let found = gguf::entries(names.iter().map(String::as_str));
    match found[..] {
        [] => Ok(None),
        [name] => Ok(Some(folder.join(name))),
        _ => Err(Error::checkpoint(
            folder,
            format!("holds several GGUF files, name one: {}", found.join(", ")),
        )),
    }
}
