//! What a run saves and goes on from.

use std::collections::BTreeMap;

use bitnet_core::Tensor;
use serde::{Deserialize, Serialize};

use super::Start;
use super::run::Trainer;
use super::start::CONFIG;
use crate::checkpoint::{Fingerprint, SavedCheckpoint, StateTensor, TrainingState};
use crate::data::{Dataset, TokenFile};
use crate::guard::Guard;
use crate::hash::sha256_of_parts;
use crate::nn::Parameter;
use crate::optim::{Optimizer, State};
use crate::{Error, Result};

/// What a checkpoint has beside what all runs have.
#[derive(Serialize, Deserialize)]
struct Extra {
    rate_factor: f32,
    guard: Guard,
}

impl Trainer {
    /// Saves a checkpoint of the present step.
    pub(super) fn save(&mut self) -> Result<()> {
        let extra = Extra { rate_factor: self.rate_factor, guard: self.guard.clone() };
        let state = TrainingState {
            step: self.step,
            position: self.data.position(),
            eval_loss: self.eval_loss,
            random: BTreeMap::new(),
            config: serde_json::to_value(extra)
                .map_err(|error| Error::io(self.folder.path(), error.into()))?,
            fingerprint: self.fingerprint.clone(),
        };
        let mut tensors: State = self.optimizer.state()?;
        for parameter in &self.parameters {
            tensors.insert(parameter.name().to_owned(), parameter.variable().value().contiguous()?);
        }
        let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| StateTensor::of(name, tensor)).collect();
        self.folder.store.save(&state, &tensors)?;
        self.saved_at = self.step;
        Ok(())
    }

    /// Goes to a checkpoint, on the disk or back.
    pub(super) fn restore(&mut self, saved: &SavedCheckpoint) -> Result<()> {
        let damaged =
            |error: serde_json::Error| Error::checkpoint(&saved.path, format!("is damaged: {error}"));
        let Extra { rate_factor, guard } = Extra::deserialize(&saved.state.config).map_err(damaged)?;
        restore_parameters(&self.parameters, saved)?;
        self.optimizer.restore(&saved.tensors)?;
        self.data.seek(saved.state.position);
        (self.rate_factor, self.guard) = (rate_factor, guard);
        (self.step, self.saved_at, self.eval_loss) =
            (saved.state.step, saved.state.step, saved.state.eval_loss);
        Ok(())
    }
}

/// Gives parameters the values of a checkpoint, in memory of their own: its files may be removed.
pub(super) fn restore_parameters(parameters: &[Parameter], saved: &SavedCheckpoint) -> Result<()> {
    for parameter in parameters {
        let name = parameter.name();
        let tensor = saved.tensors.get(name).ok_or_else(|| Error::MissingTensor(name.to_owned()))?;
        parameter.variable().set_value(tensor.copied()?)?;
    }
    Ok(())
}

/// What a run must have in common with the one it continues: the model that is not trained yet, and the data.
pub(super) fn fingerprint(
    start: &Start,
    parameters: &[Parameter],
    data: &Dataset,
    eval: Option<&Dataset>,
) -> Result<Fingerprint> {
    let mut facts = Fingerprint::default();
    facts.set("the first model", short(&hash(parameters)?));
    // A GGUF file that is adapted has none.
    if let Some(config) = start.files.get(CONFIG) {
        facts.set("config.json", short(&sha256_of_parts(&[config])));
    }
    if let Some(adaptation) = &start.adaptation {
        adaptation.describe(&mut facts);
    }
    facts.set("seq-len", data.seq_len());
    describe(&mut facts, "data", data.files());
    describe(&mut facts, "evaluation", eval.map_or(&[], Dataset::files));
    Ok(facts)
}

/// SHA-256 of all values.
pub(super) fn hash(parameters: &[Parameter]) -> Result<String> {
    let values = parameters.iter().map(|of| Ok(of.variable().value().contiguous()?));
    let values: Vec<Tensor> = values.collect::<Result<_>>()?;
    let bytes: Vec<&[u8]> = values.iter().map(|value| &value.data()[..]).collect();
    Ok(sha256_of_parts(&bytes))
}

fn describe(facts: &mut Fingerprint, what: &str, files: &[TokenFile]) {
    for (index, file) in files.iter().enumerate() {
        facts.set(format!("file {} of {what}", index + 1), short(file.key()));
    }
}

/// Of a hash, as much as tells two runs apart.
pub(super) fn short(hash: &str) -> &str {
    &hash[..12]
}
