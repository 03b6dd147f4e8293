//! Checkpoints: named tensors and the files that describe them, from a folder or from memory.
//!
//! Everything here treats its input as hostile: sizes, offsets, shapes and names are checked before they are used.

mod folder;
mod safetensors;
mod shards;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitnet_core::{Buffer, Tensor};
use serde::de::DeserializeOwned;

use self::folder::Folder;
use self::shards::Weights;
use crate::{Error, Result};

/// Named tensors, memory-mapped, with the JSON files beside them.
#[derive(Debug)]
pub struct Checkpoint {
    folder: Folder,
    weights: Weights,
}

impl Checkpoint {
    /// Opens a Hugging Face folder: `config.json` and one or several safetensors files.
    ///
    /// Errors: [`Error::ModelNotFound`] when there is no such folder, [`Error::Checkpoint`] for damaged files.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::ModelNotFound { path: path.to_owned() });
        }
        if path.is_file() {
            let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
            return Err(Error::checkpoint(
                path,
                if is_gguf {
                    "is a GGUF file, which is not supported yet; give a folder in the Hugging Face format"
                } else {
                    "is a file; give the folder that holds it"
                },
            ));
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
        Self { folder: Folder::Memory { name: name.into(), files }, weights: shards::from_memory(tensors) }
    }

    fn read(folder: Folder) -> Result<Self> {
        if folder.read("config.json")?.is_none() {
            return Err(Error::checkpoint(folder.path(), "has no config.json"));
        }
        let weights = shards::read(&folder)?;
        Ok(Self { folder, weights })
    }

    /// Where the checkpoint came from, for messages.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Path of a file of the checkpoint, for messages.
    pub fn file_path(&self, name: &str) -> PathBuf {
        self.folder.file_path(name)
    }

    /// A tensor by its name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.weights.tensors.get(name).map(|stored| &stored.tensor)
    }

    /// Names of all tensors, sorted.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.weights.tensors.keys().map(String::as_str)
    }

    /// The file that holds a tensor, or that should, for messages.
    pub fn tensor_path(&self, name: &str) -> PathBuf {
        let stored = self.weights.tensors.get(name);
        self.file_path(stored.map_or(self.weights.entry, |stored| &stored.file))
    }

    /// The bytes of a file, memory-mapped, if the checkpoint has it.
    pub fn file(&self, name: &str) -> Result<Option<Buffer>> {
        self.folder.read(name)
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
