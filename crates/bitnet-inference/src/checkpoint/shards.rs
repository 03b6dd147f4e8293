//! One safetensors file, or several with an index that says which tensor is where.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitnet_core::Tensor;
use serde::Deserialize;

use super::folder::Folder;
use super::safetensors;
use crate::{Error, Result};

pub(crate) const SINGLE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The tensors of a checkpoint and the files they are in.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) tensors: BTreeMap<String, StoredTensor>,
    /// The file through which all others are found.
    pub(super) entry: &'static str,
    /// Whether the file has the names without the "model." in front: those of a model without a head.
    pub(super) is_bare: bool,
}

impl Weights {
    fn new(tensors: BTreeMap<String, StoredTensor>, entry: &'static str) -> Self {
        let is_bare = tensors.contains_key("embed_tokens.weight");
        let name = |name: String| {
            if is_bare && !name.starts_with("lm_head.") { format!("model.{name}") } else { name }
        };
        let tensors = tensors.into_iter().map(|(stored, tensor)| (name(stored), tensor)).collect();
        Self { tensors, entry, is_bare }
    }
}

/// A tensor and the name of its file.
#[derive(Debug)]
pub(super) struct StoredTensor {
    pub(super) tensor: Tensor,
    pub(super) file: Arc<str>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// All tensors of the checkpoint.
pub(super) fn read(folder: &Folder) -> Result<Weights> {
    if let Some(bytes) = folder.read(SINGLE)? {
        return Ok(from_memory(safetensors::read(&folder.file_path(SINGLE), &bytes)?));
    }
    let Some(index) = folder.read(INDEX)? else {
        return Err(Error::checkpoint(folder.path(), format!("has neither {SINGLE} nor {INDEX}")));
    };
    let index: Index = serde_json::from_slice(&index)
        .map_err(|error| Error::checkpoint(folder.file_path(INDEX), error.to_string()))?;
    Ok(Weights::new(read_indexed(folder, &index)?, INDEX))
}

/// Tensors as if they were those of a single file.
pub(super) fn from_memory(tensors: BTreeMap<String, Tensor>) -> Weights {
    Weights::new(stored(tensors, SINGLE).collect(), SINGLE)
}

fn stored(tensors: BTreeMap<String, Tensor>, file: &str) -> impl Iterator<Item = (String, StoredTensor)> {
    let file: Arc<str> = file.into();
    tensors.into_iter().map(move |(name, tensor)| (name, StoredTensor { tensor, file: Arc::clone(&file) }))
}

fn read_indexed(folder: &Folder, index: &Index) -> Result<BTreeMap<String, StoredTensor>> {
    let shards: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    check_names(folder, &shards)?;
    let mut tensors = BTreeMap::new();
    for shard in shards {
        let path = folder.file_path(shard);
        let Some(bytes) = folder.read(shard)? else {
            return Err(Error::checkpoint(path, format!("is missing; {INDEX} names it")));
        };
        for (name, tensor) in stored(safetensors::read(&path, &bytes)?, shard) {
            if index.weight_map.get(&name).map(String::as_str) != Some(shard) {
                return Err(Error::checkpoint(
                    path,
                    format!("has tensor {name}, which {INDEX} does not place here"),
                ));
            }
            tensors.insert(name, tensor);
        }
    }
    match index.weight_map.iter().find(|(name, _)| !tensors.contains_key(*name)) {
        Some((name, shard)) => Err(Error::checkpoint(
            folder.file_path(shard),
            format!("lacks tensor {name}, which {INDEX} places here"),
        )),
        None => Ok(tensors),
    }
}

/// Names must be plain file names, and the folder must hold no shard beside them.
fn check_names(folder: &Folder, shards: &BTreeSet<&str>) -> Result<()> {
    let index = folder.file_path(INDEX);
    if let Some(name) = shards.iter().find(|name| !is_plain(name)) {
        return Err(Error::checkpoint(index, format!("{name:?} is not the name of a safetensors file")));
    }
    let is_shard = |name: &str| name.starts_with("model-") && is_plain(name);
    match folder.names()?.iter().find(|name| is_shard(name) && !shards.contains(name.as_str())) {
        Some(extra) => {
            Err(Error::checkpoint(folder.file_path(extra), format!("is a shard that {INDEX} does not name")))
        }
        None => Ok(()),
    }
}

fn is_plain(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.contains(['/', '\\', ':', '\0'])
}
