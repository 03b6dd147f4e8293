//! A run of training.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitnet_core::ThreadPool;
use bitnet_core::tensor::with_threads;
use serde::Serialize;

use super::interpolation::Interpolation;
use super::options::MAX_NORM;
use super::samples::Sampler;
use super::step::{Figures, Objective};
use super::teacher::Teacher;
use super::{Observer, Progress, RolledBack, RunFolder, Start, TrainOptions, evaluation, state, step};
use crate::autograd::{Estimator, with_notes};
use crate::checkpoint::{Fingerprint, latest};
use crate::data::{Dataset, Loader, PackOptions, Packing, TokenFile};
use crate::distillation::Distillation;
use crate::guard::{Guard, Trouble, Verdict};
use crate::metrics::{Metrics, StepLog};
use crate::model::Decoder;
use crate::nn::{Module, Parameter};
use crate::optim::{AdamW, AdamWOptions, Optimizer, Rates, Recipe, clip_factor};
use crate::{Error, Result};

/// Tokens of a run, from [`Start::token_cache`].
#[derive(Debug, Default)]
pub struct TrainingData {
    /// What is learnt.
    pub train: Vec<TokenFile>,
    /// What is only evaluated; the best checkpoint is that with the least loss here.
    pub eval: Vec<TokenFile>,
}

/// A run of training: batch, loss, gradients, clipping to a norm of 1, and a step of [`AdamW`], over and over.
///
/// With the same start, data, seed and options every number is the same, however often the run was stopped and on however
/// many threads it runs.
#[derive(Debug)]
pub struct Trainer {
    pub(super) start: Start,
    pub(super) parameters: Vec<Parameter>,
    pub(super) optimizer: AdamW,
    pub(super) data: Loader,
    pub(super) eval: Option<Dataset>,
    pub(super) folder: RunFolder,
    log: StepLog<Metrics>,
    samples: Option<Sampler>,
    pub(super) interpolation: Option<Interpolation>,
    pub(super) fingerprint: Fingerprint,
    options: TrainOptions,
    distillation: Option<Distillation>,
    pub(super) recipe: Recipe,
    rows: usize,
    steps: u64,
    pub(super) pool: Arc<ThreadPool>,
    pub(super) guard: Guard,
    pub(super) rate_factor: f32,
    /// Steps that are done.
    pub(super) step: u64,
    /// Of the last checkpoint.
    pub(super) saved_at: u64,
    /// Of the present step, where it was evaluated.
    pub(super) eval_loss: Option<f64>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All steps are done, and the model is written.
    Trained(Trained),
    /// It was stopped, and can go on.
    Stopped {
        /// Steps that are done and saved.
        step: u64,
    },
}

/// What a run has made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trained {
    /// The folder of the model, or of the adapter where that is what was trained.
    pub model: PathBuf,
    /// Steps of the run.
    pub steps: u64,
    /// The step that the model is of: that with the least loss of evaluation, or the last.
    pub model_step: u64,
    /// Mean cross-entropy of the last batch, nats per token, where the log of the run still has it.
    pub loss: Option<f64>,
    /// Loss of the written model on the data of evaluation, nats per token.
    pub eval_loss: Option<f64>,
    /// Parameters that were trained.
    pub trained_parameters: usize,
    /// All of them.
    pub parameters: usize,
}

impl Trainer {
    /// A run that begins, or goes on where its folder has one.
    ///
    /// Errors: [`Error::InvalidOption`], [`Error::Teacher`]; [`Error::SequenceLength`], [`Error::TooLittleData`];
    /// [`Error::Mismatch`] for a folder whose run is another; those of checkpoints.
    pub fn new(
        mut start: Start,
        files: TrainingData,
        folder: RunFolder,
        options: &TrainOptions,
        pool: &Arc<ThreadPool>,
    ) -> Result<Self> {
        options.check()?;
        let teacher = start.teacher.take();
        let mut context_length = start.decoder.config().context_length;
        if let Some(teacher) = &teacher {
            context_length = context_length.min(teacher.decoder.config().context_length);
        }
        let seq_len = options.seq_len(context_length);
        let pack = PackOptions { seq_len, context_length, packing: Packing::Stream };
        let data = Dataset::new(files.train, &pack)?;
        let eval = (!files.eval.is_empty()).then(|| Dataset::new(files.eval, &pack)).transpose()?;
        let rows = options.rows(seq_len)?;
        let steps = options.steps(data.len(), rows);
        let peak = options.learning_rate.unwrap_or(start.default_peak(options.recipe));
        let parameters = start.decoder.parameters();

        let mut fingerprint = state::fingerprint(&start, &parameters, &data, eval.as_ref())?;
        fingerprint.set("recipe", options.recipe);
        fingerprint.set("optimizer", options.optimizer);
        fingerprint.set("lr", peak);
        fingerprint.set("steps", steps);
        fingerprint.set("sequences of a step", rows);
        fingerprint.set("accumulate", options.accumulate);
        fingerprint.set("activation-dtype", options.notes);
        fingerprint.set("seed", options.seed);
        let distillation = Teacher::distillation(teacher, &start.decoder, options, &mut fingerprint)?;

        let saved = folder.store.resume(&fingerprint)?;
        let first = saved.as_ref().map_or(0, |saved| saved.state.step);
        let samples = options.samples.as_ref();
        let adamw = AdamWOptions { moments: options.optimizer.moments(), ..AdamWOptions::default() };
        let mut trainer = Self {
            // First: a refusal leaves no file.
            interpolation: Interpolation::new(options.interpolate, &start, &parameters)?,
            samples: samples.map(|of| Sampler::new(of, &start, &folder, first)).transpose()?,
            log: StepLog::open(&folder.metrics(), first)?,
            optimizer: AdamW::new(parameters.clone(), adamw),
            data: Loader::new(Arc::new(data), rows, options.seed),
            recipe: options.recipe.recipe(peak, steps),
            options: options.clone(),
            distillation,
            pool: Arc::clone(pool),
            guard: Guard::default(),
            rate_factor: 1.0,
            step: 0,
            saved_at: 0,
            eval_loss: None,
            start,
            parameters,
            eval,
            folder,
            fingerprint,
            rows,
            steps,
        };
        match saved {
            Some(saved) => trainer.restore(&saved)?,
            // What the first trouble goes back to.
            None => trainer.save()?,
        }
        Ok(trainer)
    }

    /// The model as it is now.
    pub fn decoder(&self) -> &Decoder {
        &self.start.decoder
    }

    /// Parameters that are trained, and all of them.
    pub fn parameter_counts(&self) -> [usize; 2] {
        let trained = self.parameters.iter().map(|parameter| parameter.variable().value().len()).sum();
        let frozen = self.start.adaptation.as_ref().map_or(0, |adaptation| adaptation.base_weights);
        [trained, trained + frozen]
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Steps that are done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Trains to the end, and writes the model and the curve.
    ///
    /// Errors: [`Error::Diverged`]; those of the system, for a full disk and the like: the last checkpoint is whole then.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Outcome> {
        with_threads(&Arc::clone(&self.pool), || {
            let (begun, first) = (Instant::now(), self.step);
            while self.step < self.steps {
                let Some(metrics) = self.advance(observer)? else { continue };
                let pace = begun.elapsed().as_secs_f64() / self.step.saturating_sub(first).max(1) as f64;
                let left = Duration::from_secs_f64(pace * (self.steps - self.step) as f64);
                let progress = Progress { metrics: &metrics, steps: self.steps, left };
                if let ControlFlow::Break(()) = observer.step(&progress)
                    && self.step < self.steps
                {
                    self.save()?;
                    return Ok(Outcome::Stopped { step: self.step });
                }
            }
            self.finish().map(Outcome::Trained)
        })
    }

    /// One step, or the way back from one that went wrong.
    fn advance(&mut self, observer: &mut dyn Observer) -> Result<Option<Metrics>> {
        let begun = Instant::now();
        let batch = self.data.next_batch();
        let TrainOptions { accumulate, notes, .. } = self.options;
        let objective = self.objective();
        let compute = || step::gradients(self.decoder(), &self.parameters, &batch, accumulate, objective);
        let Figures { loss, parts, norm } = with_notes(notes, compute)?;
        if let Some(trouble) = self.trouble(loss, norm)? {
            self.roll_back(self.step + 1, trouble, observer)?;
            return Ok(None);
        }
        let learning_rate = self.recipe.learning_rate(self.step) * self.rate_factor;
        self.optimizer.step(Rates {
            learning_rate,
            weight_decay: self.recipe.weight_decay(self.step),
            gradient_factor: clip_factor(norm, MAX_NORM),
        })?;
        self.step += 1;
        let tokens_per_s = batch.ids.len() as f64 / begun.elapsed().as_secs_f64();
        self.eval_loss = self.evaluate()?;
        if let Some(loss) = self.eval_loss.filter(|loss| !loss.is_finite())
            && let Some(trouble) = self.trouble(loss, norm)?
        {
            self.roll_back(self.step, trouble, observer)?;
            return Ok(None);
        }
        let (step, lr, grad_norm, eval_loss) = (self.step, learning_rate.into(), norm, self.eval_loss);
        let metrics = Metrics { step, loss, lr, grad_norm, parts, tokens_per_s, eval_loss };
        self.log.append(&metrics)?;
        if let Some(samples) = &mut self.samples
            && let Some(sample) = samples.write(&self.start, self.step, &self.pool)?
        {
            observer.sample(&sample);
        }
        if self.is_to_be_saved() {
            self.save()?;
        }
        Ok(Some(metrics))
    }

    /// What the next step learns with.
    fn objective(&self) -> Objective<'_> {
        let distillation = self.distillation.as_ref();
        let estimator = distillation
            .map_or(Estimator::Plain, |distillation| distillation.options().estimator(self.step, self.steps));
        Objective { distillation, estimator }
    }

    /// The loss of evaluation, where this step has one.
    fn evaluate(&self) -> Result<Option<f64>> {
        let [every, _] = self.options.intervals(self.steps);
        let is_due = self.step.is_multiple_of(every) || self.step == self.steps;
        if is_due { self.loss_of_evaluation() } else { Ok(None) }
    }

    /// The loss on what is only evaluated, where there is such data.
    pub(super) fn loss_of_evaluation(&self) -> Result<Option<f64>> {
        let rows = self.rows.div_ceil(self.options.accumulate);
        // An adapter is written as it is.
        let written = if self.start.is_adapter() { &[] } else { &self.parameters[..] };
        let eval = self.eval.as_ref();
        eval.map(|eval| evaluation::loss(self.decoder(), written, eval, rows)).transpose()
    }

    /// A state amid high losses may be the one that they come from: it is saved when they are over, and at the end.
    fn is_to_be_saved(&self) -> bool {
        let [_, every] = self.options.intervals(self.steps);
        let is_due = self.eval_loss.is_some() || self.step - self.saved_at >= every;
        self.step == self.steps || is_due && self.guard.is_calm()
    }

    /// What the guard says of a step, if it is not good.
    fn trouble(&mut self, loss: f64, norm: f64) -> Result<Option<(Trouble, f32)>> {
        match self.guard.watch(loss as f32, norm as f32, &self.options.guard) {
            Verdict::Continue => Ok(None),
            Verdict::RollBack { trouble, rate_factor } => Ok(Some((trouble, rate_factor))),
            Verdict::GiveUp { trouble } => Err(Error::Diverged { step: self.step, trouble }),
        }
    }

    /// Goes back to the last checkpoint, and on from there with a lower rate.
    fn roll_back(
        &mut self,
        from: u64,
        (trouble, factor): (Trouble, f32),
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let found = latest(self.folder.store.folder())?;
        let missing = || Error::checkpoint(self.folder.store.folder(), "has no checkpoint to go back to");
        let saved = found.checkpoint.ok_or_else(missing)?;
        // The guard counts how often this was tried, and rates stay as low as they are.
        let (guard, rate_factor) = (self.guard.clone(), self.rate_factor * factor);
        self.restore(&saved)?;
        (self.guard, self.rate_factor) = (guard, rate_factor);
        self.folder.store.discard_after(self.step)?;
        self.log.truncate_after(self.step)?;
        self.samples.as_mut().map_or(Ok(()), |samples| samples.forget_after(self.step))?;
        observer.rolled_back(&RolledBack { from, to: self.step, trouble, rate_factor });
        Ok(())
    }
}
