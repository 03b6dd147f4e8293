//! Adapters: products of low rank beside the linears of a model, `y = linear(x) + alpha / rank B (A x)` (LoRA, arXiv
//! 2106.09685), in the files of PEFT.
//!
//! They stay a product of their own. `codes * scale + alpha / rank B A` is not ternary, and making it ternary again
//! rounds away most of what was learnt; nor does a float matrix of that sum give the same, since the ternary product takes
//! `x` in int8 and the adapter takes it as it is. So there is no merge that loses nothing.

mod config;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitnet_core::LowRank;
use serde::Serialize;

pub use self::config::AdapterConfig;
pub use self::write::{tensor_names, write};
use super::{LINEARS, Model};
use crate::{Error, Result};

/// Name of the file of the tensors.
const TENSORS: &str = "adapter_model.safetensors";

/// The adapters of the linears of a model.
#[derive(Debug, Clone)]
pub struct Adapter {
    path: PathBuf,
    config: AdapterConfig,
    /// By layer, and place among [`super::Block::linears`].
    linears: BTreeMap<(usize, usize), LowRank>,
}

/// An adapter in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdapterSummary {
    /// Where it was loaded from.
    pub path: String,
    /// Its rank.
    pub rank: usize,
    /// Its products are multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Linears that have one.
    pub linears: usize,
    /// Its weights.
    pub parameters: usize,
    /// Their bytes in memory, all of which each token reads.
    pub bytes: usize,
}

impl Adapter {
    /// What is added to a linear, by its layer and its place among [`super::Block::linears`].
    pub fn of(&self, layer: usize, linear: usize) -> Option<&LowRank> {
        self.linears.get(&(layer, linear))
    }

    /// Its figures.
    pub fn summary(&self) -> AdapterSummary {
        AdapterSummary {
            path: self.path.display().to_string(),
            rank: self.config.rank,
            alpha: self.config.alpha,
            linears: self.linears.len(),
            parameters: self.linears.values().map(LowRank::parameters).sum(),
            bytes: self.linears.values().map(LowRank::size_bytes).sum(),
        }
    }

    /// Where it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Model {
    /// Puts an adapter beside the linears.
    ///
    /// Errors: [`Error::Checkpoint`] for one of another model: layers that are not there, other shapes.
    pub fn set_adapter(&mut self, adapter: Adapter) -> Result<()> {
        for (&(layer, linear), low_rank) in &adapter.linears {
            let error = |fact| Err(Error::checkpoint(adapter.path.join(TENSORS), fact));
            let name = format!("model.layers.{layer}.{}", LINEARS[linear]);
            let Some(block) = self.blocks.get(layer) else {
                return error(format!("adapts {name}; the model has {} layers", self.blocks.len()));
            };
            let expected = [block.linears()[linear].rows(), block.linears()[linear].cols()];
            let got = [low_rank.outputs(), low_rank.inputs()];
            if got != expected {
                return error(format!("adapts {name} of shape {got:?}; the model has {expected:?} there"));
            }
        }
        self.adapter = Some(adapter);
        Ok(())
    }
}
