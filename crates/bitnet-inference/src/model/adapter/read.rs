//! Adapters from their folders.

use std::collections::BTreeMap;
use std::path::Path;

use bitnet_core::{LowRank, Tensor};

use super::config::{AdapterConfig, CONFIG};
use super::write::{PREFIX, SIDES, tensor_names};
use super::{Adapter, LINEARS, TENSORS};
use crate::checkpoint::{map_file, safetensors};
use crate::{Error, Result};

impl Adapter {
    /// Opens the folder of an adapter: `adapter_config.json` and `adapter_model.safetensors`, as PEFT writes them.
    ///
    /// Errors: [`Error::Checkpoint`] for what is no such folder, and for tensors that are damaged, do not fit the config,
    /// or belong to modules other than the projections of attention and feed-forward network; [`Error::Config`] for
    /// kinds of adapters that do not run; [`Error::MissingTensor`].
    pub fn open(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::checkpoint(
                folder,
                format!("is no adapter: a folder with {CONFIG} is needed"),
            ));
        }
        let config = AdapterConfig::read(folder)?;
        let path = folder.join(TENSORS);
        let Some(bytes) = map_file(&path)? else {
            return Err(Error::checkpoint(folder, format!("has no {TENSORS}")));
        };
        let file = File { path: &path, config: &config };
        let pairs = file.pairs(safetensors::read(&path, &bytes)?)?;
        if pairs.is_empty() {
            return Err(Error::checkpoint(&path, "has no tensors"));
        }
        let linears = pairs.into_iter().map(|(place, pair)| Ok((place, file.low_rank(place, pair)?)));
        let linears = linears.collect::<Result<_>>()?;
        Ok(Self { path: folder.to_owned(), config, linears })
    }
}

/// `A` and `B` of a linear.
type Pair = [Option<Tensor>; 2];

/// The file of the tensors.
struct File<'a> {
    path: &'a Path,
    config: &'a AdapterConfig,
}

impl File<'_> {
    /// The tensors by their linears.
    fn pairs(&self, tensors: BTreeMap<String, Tensor>) -> Result<BTreeMap<(usize, usize), Pair>> {
        let mut pairs: BTreeMap<_, Pair> = BTreeMap::new();
        for (name, tensor) in tensors {
            let Some((place, side)) = place(&name) else {
                let fact =
                    "belongs to no projection of attention or feed-forward network; such adapters do not run";
                return Err(self.error(&name, fact));
            };
            if pairs.entry(place).or_default()[side].replace(tensor).is_some() {
                return Err(self.error(&name, "is there a second time, with and without \"model.\""));
            }
        }
        Ok(pairs)
    }

    fn low_rank(&self, (layer, linear): (usize, usize), pair: Pair) -> Result<LowRank> {
        let names = tensor_names(&format!("model.layers.{layer}.{}", LINEARS[linear]));
        let tensors = match pair {
            [Some(a), Some(b)] => [a, b],
            [None, _] => return Err(self.missing(&names[0])),
            [_, None] => return Err(self.missing(&names[1])),
        };
        for (tensor, name) in tensors.iter().zip(&names) {
            let values = tensor.to_f32().map_err(|error| self.error(name, error))?;
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(self.error(name, format!("element {at} is not finite")));
            }
        }
        let [a, b] = &tensors;
        let low_rank =
            LowRank::new(a, b, self.config.factor()).map_err(|error| self.error(&names[0], error))?;
        if low_rank.rank() != self.config.rank {
            let fact = format!("has rank {}; {CONFIG} says r = {}", low_rank.rank(), self.config.rank);
            return Err(self.error(&names[0], fact));
        }
        Ok(low_rank)
    }

    fn error(&self, name: &str, fact: impl std::fmt::Display) -> Error {
        Error::checkpoint(self.path, format!("tensor {name}: {fact}"))
    }

    fn missing(&self, name: &str) -> Error {
        Error::MissingTensor { path: self.path.to_owned(), name: name.to_owned() }
    }
}

/// Layer, place among the linears, and side of a tensor.
fn place(name: &str) -> Option<((usize, usize), usize)> {
    let module = name.strip_prefix(PREFIX)?;
    let (module, side) = SIDES
        .iter()
        .enumerate()
        .find_map(|(side, end)| Some((module.strip_suffix(end)?.strip_suffix('.')?, side)))?;
    // Backbones without a head have no "model." in front, as in their checkpoints.
    let module = module.strip_prefix("model.").unwrap_or(module);
    let (layer, linear) = module.strip_prefix("layers.")?.split_once('.')?;
    // As it was written: no sign, no zeros in front.
    let number = layer.parse().ok().filter(|number: &usize| number.to_string() == layer)?;
    Some(((number, LINEARS.iter().position(|name| *name == linear)?), side))
}
