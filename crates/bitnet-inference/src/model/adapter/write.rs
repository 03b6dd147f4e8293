//! Adapters to their folders.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bitnet_core::Tensor;

use super::TENSORS;
use super::config::{AdapterConfig, CONFIG};
use crate::convert::safetensors::{Spec, write_file, write_json};
use crate::{Result, atomic_folder};

/// What PEFT has in front of the names of modules.
pub(super) const PREFIX: &str = "base_model.model.";

/// What `A` and `B` are called in a module.
pub(super) const SIDES: [&str; 2] = ["lora_A.weight", "lora_B.weight"];

/// Names of `A`, `[rank, inputs]`, and `B`, `[outputs, rank]`, of the linear of this Hugging Face name.
pub fn tensor_names(module: &str) -> [String; 2] {
    SIDES.map(|side| format!("{PREFIX}{module}.{side}"))
}

/// Writes a new folder of an adapter: a config, and tensors by their [`tensor_names`], whole or not at all.
///
/// Errors: [`crate::Error::Io`], also for something that is at `path` already.
pub fn write(path: &Path, config: &AdapterConfig, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let modules: BTreeSet<&str> = tensors.keys().filter_map(|name| name.rsplit('.').nth(2)).collect();
    let config = config.to_json(&Vec::from_iter(modules));
    let (mut specs, mut values) = (Vec::new(), Vec::new());
    for (name, tensor) in tensors {
        let (dtype, dims) = (tensor.dtype(), tensor.dims().to_vec());
        specs.push(Spec { name: name.clone(), dtype, dims });
        values.push(tensor.contiguous()?);
    }
    atomic_folder::write(path, |folder| {
        write_file(&folder.join(TENSORS), &specs, |index| Ok(Cow::Borrowed(&values[index].data()[..])))?;
        write_json(&folder.join(CONFIG), &config)
    })
}
