//! How a model is trained.

use super::{OptimizerName, RecipeName, SampleOptions};
use crate::autograd::NoteFormat;
use crate::distillation::DistillOptions;
use crate::guard::GuardOptions;
use crate::{Error, Result};

/// Gradients are clipped to this norm, as is usual.
pub(super) const MAX_NORM: f64 = 1.0;

/// Tokens of a sequence, where nothing else is asked for.
const SEQ_LEN: usize = 256;

/// Times that a run is evaluated and saved, where nothing else is asked for.
const TIMES: u64 = 10;

/// How long to train.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// Steps.
    Steps(u64),
    /// Times that all sequences are learnt, to the next whole step.
    Epochs(f64),
}

/// How a model is trained. `None` is a value that follows from the others.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// How long.
    pub length: Length,
    /// Learning rates and weight decay.
    pub recipe: RecipeName,
    /// How the recipe `distill` learns from its teacher.
    pub distill: DistillOptions,
    /// What moves the parameters.
    pub optimizer: OptimizerName,
    /// The greatest learning rate; `None` is [`super::Start::default_peak`].
    pub learning_rate: Option<f32>,
    /// Tokens of a step, to the next whole sequence below, at least one.
    pub batch_tokens: usize,
    /// Parts in which the gradients of a step are computed, one after another: memory for one of them is enough.
    pub accumulate: usize,
    /// How activations wait for the backward pass.
    pub notes: NoteFormat,
    /// Tokens of a sequence; `None` is 256, or the context of the model if that is less.
    pub seq_len: Option<usize>,
    /// Of the order of the data. That of a new model is asked for where the model is.
    pub seed: u64,
    /// Steps between evaluations; `None` is a tenth of all.
    pub eval_every: Option<u64>,
    /// Steps between checkpoints; `None` is a tenth of all. There is one at each evaluation, too.
    pub save_every: Option<u64>,
    /// Checkpoints to keep beside the best.
    pub keep: usize,
    /// Where the written model lies on the way from the first one to the trained one, above 0 and at most 1: `w_0 +
    /// interpolate (w_1 - w_0)`. It is for models that were trained before, and may be another when a run goes on.
    pub interpolate: f32,
    /// Texts of the model meanwhile; they change nothing in the run.
    pub samples: Option<SampleOptions>,
    /// What counts as going wrong.
    pub guard: GuardOptions,
}

impl Default for TrainOptions {
    /// One epoch of the recipe `b1.58`, 4096 tokens a step.
    fn default() -> Self {
        Self {
            length: Length::Epochs(1.0),
            recipe: RecipeName::B1_58,
            distill: DistillOptions::default(),
            optimizer: OptimizerName::AdamW,
            learning_rate: None,
            batch_tokens: 4096,
            accumulate: 1,
            notes: NoteFormat::Float32,
            seq_len: None,
            seed: 0,
            eval_every: None,
            save_every: None,
            keep: 2,
            interpolate: 1.0,
            samples: None,
            guard: GuardOptions::default(),
        }
    }
}

impl TrainOptions {
    /// Errors: [`Error::InvalidOption`].
    pub(super) fn check(&self) -> Result<()> {
        let invalid = |name, expected, got: String| Err(Error::InvalidOption { name, expected, got });
        match self.length {
            Length::Steps(0) => return invalid("steps", "at least 1", "0".to_owned()),
            Length::Epochs(epochs) if !(epochs > 0.0 && epochs.is_finite()) => {
                return invalid("epochs", "a number above 0", epochs.to_string());
            }
            _ => {}
        }
        if !(self.interpolate > 0.0 && self.interpolate <= 1.0) {
            return invalid("interpolate", "above 0 and at most 1", self.interpolate.to_string());
        }
        match self.learning_rate {
            Some(rate) if !(rate > 0.0 && rate.is_finite()) => {
                invalid("lr", "a number above 0", rate.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Tokens of a sequence of a model.
    pub fn seq_len(&self, context_length: usize) -> usize {
        self.seq_len.unwrap_or(SEQ_LEN.min(context_length))
    }

    /// Sequences of a step. Errors: [`Error::InvalidOption`] for more parts than sequences.
    pub(super) fn rows(&self, seq_len: usize) -> Result<usize> {
        let rows = (self.batch_tokens / seq_len.max(1)).max(1);
        if (1..=rows).contains(&self.accumulate) {
            return Ok(rows);
        }
        let expected = "at least 1, and at most the sequences of a step";
        let got = format!("{} of {rows} sequences", self.accumulate);
        Err(Error::InvalidOption { name: "accumulate", expected, got })
    }

    /// Steps of a run on so many sequences.
    pub(super) fn steps(&self, sequences: usize, rows: usize) -> u64 {
        match self.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => ((epochs * sequences as f64 / rows as f64).ceil() as u64).max(1),
        }
    }

    /// Steps between evaluations, and between checkpoints.
    pub(super) fn intervals(&self, steps: u64) -> [u64; 2] {
        [self.eval_every, self.save_every].map(|every| every.unwrap_or(steps.div_ceil(TIMES)).max(1))
    }
}
