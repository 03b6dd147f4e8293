//! Runs of which adapters alone are trained.

use std::collections::BTreeMap;
use std::path::Path;

use bitnet_core::Tensor;
use bitnet_core::tensor::lent_threads;
use bitnet_inference::convert::description;
use bitnet_inference::model::Linear;
use bitnet_inference::model::adapter::{self, AdapterConfig};
use bitnet_inference::{Checkpoint, Model};

use super::{RecipeName, Start};
use crate::checkpoint::Fingerprint;
use crate::hash::{sha256, sha256_of_parts};
use crate::model::Decoder;
use crate::nn::{LoraOptions, Module};
use crate::{Error, Result};

/// The greatest learning rate of an adapter, ten times that of a whole model: see docs/training.md.
const PEAK: f32 = 2e-3;

/// An adapter that is trained, and what it is trained beside.
#[derive(Debug)]
pub(super) struct Adaptation {
    pub(super) config: AdapterConfig,
    /// The model.
    pub(super) base: Checkpoint,
    /// Hash of its tensors.
    hash: String,
    /// Weights of the model.
    pub(super) base_weights: usize,
}

impl Start {
    /// A new adapter beside each projection of a model, packed or a master, which stays as it is: nothing else is trained
    /// (LoRA, arXiv 2106.09685).
    ///
    /// The ternary weights have no master, no gradient and no optimizer state. `seed` draws the adapter.
    ///
    /// Errors: those of [`Model::load`] and [`Decoder::adapted`]; [`Error::InvalidOption`] for a rank or an alpha that
    /// cannot be.
    pub fn adapter(checkpoint: Checkpoint, options: &LoraOptions, seed: u64) -> Result<Self> {
        let model = Model::load(&checkpoint, lent_threads()?.as_ref())?;
        let sides = |linear: &Linear| linear.rows().min(linear.cols());
        let linears = model.blocks.iter().flat_map(bitnet_inference::model::Block::linears);
        options.check(linears.map(sides).min().unwrap_or(0))?;
        let config = options.config(checkpoint.path().display().to_string());
        let decoder = Decoder::adapted(&checkpoint, &model, &config, seed)?;
        let mut start = Self::new(&checkpoint, decoder, description(&checkpoint)?)?;
        let (hash, base_weights) = (hash(&checkpoint)?, weights(&model));
        start.adaptation = Some(Adaptation { config, base: checkpoint, hash, base_weights });
        Ok(start)
    }

    /// Whether adapters alone are trained.
    pub fn is_adapter(&self) -> bool {
        self.adaptation.is_some()
    }

    /// The greatest learning rate, where none is asked for: [`RecipeName::default_peak`], or 2e-3 for an adapter.
    pub fn default_peak(&self, recipe: RecipeName) -> f32 {
        if self.is_adapter() { PEAK } else { recipe.default_peak() }
    }

    /// Writes the adapter as it is now, in float32.
    pub(super) fn write_adapter(&self, path: &Path, adaptation: &Adaptation) -> Result<()> {
        let parameters = self.decoder.parameters();
        let tensors: BTreeMap<String, Tensor> = parameters
            .iter()
            .map(|parameter| (parameter.name().to_owned(), parameter.variable().value()))
            .collect();
        Ok(adapter::write(path, &adaptation.config, &tensors)?)
    }
}

impl Adaptation {
    /// What a run has in common with the one it continues.
    pub(super) fn describe(&self, facts: &mut Fingerprint) {
        facts.set("the adapted model", &self.hash[..12]);
        facts.set("lora", self.config.rank);
        facts.set("lora-alpha", self.config.alpha);
    }
}

/// Of all tensors as they are stored.
fn hash(checkpoint: &Checkpoint) -> Result<String> {
    let mut hashes = String::new();
    for name in checkpoint.tensor_names() {
        let stored = checkpoint.tensor(name)?.ok_or_else(|| Error::MissingTensor(name.to_owned()))?;
        hashes += &sha256_of_parts(&[name.as_bytes(), stored.data()]);
    }
    Ok(sha256(hashes.as_bytes()))
}

/// All weights of a model, as `bitnet inspect` counts them.
fn weights(model: &Model) -> usize {
    let embedding = model.embedding.rows() * model.embedding.cols();
    model.linears().map(Linear::weights).sum::<usize>() + embedding + model.vector_elements()
}
