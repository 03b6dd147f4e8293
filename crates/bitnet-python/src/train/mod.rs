//! `bitnet_rust.train`: a run of training, watched by Python.

mod beginning;
mod options;
mod result;
mod watcher;

pub(crate) use self::result::{TrainResult, TrainStep};

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_training::data::{TokenCache, TokenFile};
use bitnet_training::metrics;
use bitnet_training::nn::LoraOptions;
use bitnet_training::trainer::{Outcome, RunFolder, TrainOptions, Trainer, TrainingData};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use self::beginning::{Beginning, Beside};
use self::watcher::Watcher;
use crate::convert::threads_or_default;
use crate::error::{Failure, exception};
use crate::model::{check_signals, count, model_name};

/// Train a BitNet model, as `bitnet train` does, and return the result: TrainResult.
///
/// model_or_config is what to begin with: "tiny" or "mini", a new model of this shape; a config.json, or its fields as a
/// dict, a new model with the tokenizer beside the file or one of bytes; or a model, a float master or packed: a folder,
/// a GGUF file or a hub id. data and eval are paths, one or several: texts, JSONL, token ids of NumPy. output is the
/// folder of the run, which is there to be resumed, or is new.
///
/// lora trains adapters of this rank beside the model, which count lora_alpha / rank times (by default twice), and nothing
/// else. teacher is a model to learn from, with recipe "distill": temperature (2), logit_weight (2), relation_weight (0.1),
/// relation_layer, relation_heads and ramp (0) say how, and a Llama model in full precision is made a BitNet one first.
///
/// recipe is "b1.58" (the default), "finetune" or "distill"; steps or epochs (by default 1) say how long; batch_tokens
/// (4096) are the tokens of a step, seq_len (256, or the context) those of a sequence; lr is the greatest learning rate, by default that
/// of the recipe; seed (0) is that of new weights and of the order of the data; eval_every and save_every are steps, by
/// default a tenth of all. accumulate computes a step in so many parts; optimizer is "adamw" or "adamw-8bit";
/// activation_dtype, of what waits for the backward pass, "f32" or "bf16"; every sample_every steps the model continues
/// sample_prompt; interpolate (1) is where the written model lies on the way from the first to the trained one. threads
/// are the physical cores by default; they change no number.
///
/// callbacks are called with a TrainStep behind each step. What one raises stops the run, as Ctrl-C does, and is raised
/// when the run is saved: resume=True goes on with it. Raises OptionError, DataError, DivergedError, CheckpointError for a
/// folder of another run, and the errors of load().
#[pyfunction]
#[pyo3(signature = (model_or_config, data, *, output, eval = None, resume = false, threads = None, callbacks = None,
                    lora = None, lora_alpha = None, teacher = None, **options),
       text_signature = "(model_or_config, data, *, output, eval=None, resume=False, threads=None, callbacks=(), \
                         lora=None, lora_alpha=None, teacher=None, **options)")]
#[expect(clippy::too_many_arguments, reason = "the options of the Python call")]
pub(crate) fn train(
    py: Python<'_>,
    model_or_config: &Bound<'_, PyAny>,
    data: &Bound<'_, PyAny>,
    output: PathBuf,
    eval: Option<&Bound<'_, PyAny>>,
    resume: bool,
    threads: Option<i64>,
    callbacks: Option<&Bound<'_, PyAny>>,
    lora: Option<i64>,
    lora_alpha: Option<f64>,
    teacher: Option<PathBuf>,
    options: Option<&Bound<'_, PyDict>>,
) -> Result<TrainResult, Failure> {
    let run = Run {
        options: options::train_options(options)?,
        beginning: Beginning::read(model_or_config)?,
        beside: beside(lora, lora_alpha, teacher)?,
        data: paths("data", data)?,
        eval: eval.map_or_else(|| Ok(Vec::new()), |eval| paths("eval", eval))?,
        output,
        resume,
        threads: threads_or_default(threads)?,
    };
    let mut watcher = Watcher::new(callbacks)?;
    let ended = py.detach(|| run.train(&mut watcher));
    let (trained, metrics) = watcher.judge(py, ended)?;
    let base = run.beginning.adapted(&run.beside).map(str::to_owned);
    TrainResult::new(py, (run.output, base), trained, &metrics, (watcher.samples, watcher.rolled_back))
}

/// What a run needs.
struct Run {
    options: TrainOptions,
    beginning: Beginning,
    beside: Beside,
    data: Vec<PathBuf>,
    eval: Vec<PathBuf>,
    output: PathBuf,
    resume: bool,
    threads: usize,
}

impl Run {
    /// The outcome, and the figures of all steps.
    fn train(&self, watcher: &mut Watcher) -> Result<(Outcome, Vec<metrics::Metrics>), Failure> {
        let open = if self.resume { RunFolder::resume } else { RunFolder::begin };
        let folder = open(&self.output, self.options.keep)?;
        let pool = Arc::new(ThreadPool::new(self.threads)?);
        let log = folder.metrics();
        let start = self.beginning.start(&self.beside, self.options.seed)?;
        let cache = start.token_cache(&folder.tokens(), &pool);
        let data = TrainingData { train: tokens(&cache, &self.data)?, eval: tokens(&cache, &self.eval)? };
        let mut trainer = Trainer::new(start, data, folder, &self.options, &pool)?;
        let outcome = trainer.run(watcher)?;
        Ok((outcome, metrics::read(&log)?))
    }
}

/// What goes with a beginning, from its arguments.
fn beside(lora: Option<i64>, alpha: Option<f64>, teacher: Option<PathBuf>) -> Result<Beside, Failure> {
    let rank = lora.map(|rank| count("lora", rank)).transpose()?;
    if let (None, Some(alpha)) = (rank, alpha) {
        let (name, expected) = ("lora_alpha", "None without lora");
        return Err(bitnet_inference::Error::InvalidOption { name, expected, got: alpha.to_string() }.into());
    }
    let lora = rank.map(|rank| LoraOptions { rank, alpha });
    Ok(Beside { lora, teacher: teacher.map(model_name).transpose()? })
}

/// The tokens of files, which Ctrl-C interrupts.
fn tokens(cache: &TokenCache<'_>, paths: &[PathBuf]) -> Result<Vec<TokenFile>, Failure> {
    let open = |path: &PathBuf| {
        let mut interrupt = Ok(());
        let file = cache.open(path, &mut |_, _| {
            interrupt = check_signals();
            if interrupt.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        interrupt?;
        Ok(file?)
    };
    paths.iter().map(open).collect()
}

/// One path, or several.
fn paths(name: &str, object: &Bound<'_, PyAny>) -> Result<Vec<PathBuf>, Failure> {
    if let Ok(path) = object.extract() {
        return Ok(vec![path]);
    }
    let wrong = |_| PyTypeError::new_err(format!("{name} must be a path or a sequence of paths"));
    let paths: Vec<PathBuf> =
        object.try_iter().and_then(|paths| paths.map(|path| path?.extract()).collect()).map_err(wrong)?;
    if paths.is_empty() {
        return Err(exception("DataError", &format!("{name} names no file")).into());
    }
    Ok(paths)
}
