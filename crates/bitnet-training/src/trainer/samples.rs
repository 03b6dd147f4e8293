//! What the model writes while it is trained.

use std::path::PathBuf;
use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_inference::{GenerateOptions, LoadOptions, LoadedModel};
use serde::{Deserialize, Serialize};

use super::export::remove;
use super::{RunFolder, Start};
use crate::metrics::{Record, StepLog};
use crate::{Error, Result};

/// The most tokens of a sample.
const MAX_TOKENS: usize = 64;

/// When a model writes, and what it continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleOptions {
    /// Steps between samples.
    pub every: u64,
    /// What is continued.
    pub prompt: String,
}

/// What the model of a step made of a prompt: by the engine, with its parameters as they are written, and by the
/// most probable token each time, at most 64 of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Steps that were done.
    pub step: u64,
    /// What was continued.
    pub prompt: String,
    /// How.
    pub text: String,
}

impl Record for Sample {
    const NAME: &'static str = "sample";

    fn step(&self) -> u64 {
        self.step
    }
}

/// The samples of a run.
#[derive(Debug)]
pub(super) struct Sampler {
    options: SampleOptions,
    log: StepLog<Sample>,
    /// Where an adapter lies while it is tried.
    adapter: PathBuf,
}

impl Sampler {
    /// For a run that goes on behind `step`.
    ///
    /// Errors: [`Error::InvalidOption`], also for a prompt that leaves no room in the context; those of tokenizers and of
    /// [`StepLog::open`].
    pub(super) fn new(options: &SampleOptions, start: &Start, folder: &RunFolder, step: u64) -> Result<Self> {
        let invalid = |name, expected, got: String| Err(Error::InvalidOption { name, expected, got });
        if options.every == 0 {
            return invalid("sample-every", "at least 1", "0".to_owned());
        }
        let tokens = if options.prompt.is_empty() { 0 } else { start.encode(&options.prompt)?.len() };
        if !(1..start.decoder.config().context_length).contains(&tokens) {
            let expected = "a text that is not empty and shorter than the context of the model";
            return invalid("sample-prompt", expected, format!("one of {tokens} tokens"));
        }
        let log = StepLog::open(&folder.samples(), step)?;
        Ok(Self { options: options.clone(), log, adapter: folder.next_model() })
    }

    /// The sample of a step, where it has one.
    ///
    /// Errors: those of [`LoadedModel::from_checkpoint`], of [`StepLog::append`] and of files.
    pub(super) fn write(&mut self, start: &Start, step: u64, pool: &ThreadPool) -> Result<Option<Sample>> {
        if !step.is_multiple_of(self.options.every) {
            return Ok(None);
        }
        let generate = GenerateOptions { max_tokens: MAX_TOKENS, ..GenerateOptions::default() };
        let prompt = self.options.prompt.clone();
        let text = self.model(start, pool)?.generate(prompt.as_str(), &generate)?.text;
        let sample = Sample { step, prompt, text };
        self.log.append(&sample)?;
        Ok(Some(sample))
    }

    /// The model as it is now, in the engine.
    fn model(&self, start: &Start, pool: &ThreadPool) -> Result<Arc<LoadedModel>> {
        let mut options = LoadOptions { threads: Some(pool.threads()), ..LoadOptions::default() };
        let Some(adaptation) = &start.adaptation else {
            return Ok(LoadedModel::from_checkpoint(&start.checkpoint()?, &options)?);
        };
        remove(&self.adapter)?;
        start.write_adapter(&self.adapter, adaptation)?;
        options.adapter = Some(self.adapter.clone());
        let model = LoadedModel::from_checkpoint(&adaptation.base, &options)?;
        remove(&self.adapter)?;
        Ok(model)
    }

    /// Drops the samples of steps that the run went back from. Errors: as [`StepLog::open`].
    pub(super) fn forget_after(&mut self, step: u64) -> Result<()> {
        self.log.truncate_after(step)
    }
}
