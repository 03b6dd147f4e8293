//! `bitnet train`.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bitnet_core::ThreadPool;
use bitnet_inference::{Checkpoint, GgufOptions};
use bitnet_training::data::{TokenCache, TokenFile};
use bitnet_training::trainer::{
    Observer, Outcome, Progress, RolledBack, RunFolder, Sample, Start, TrainOptions, Trained, Trainer,
    TrainingData,
};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::args::{Init, TrainArgs};
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{self, grouped};

/// What is printed with `--json`.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    trained: Trained,
    /// `exp(eval_loss)`.
    eval_perplexity: Option<f64>,
    /// Times that the run went back.
    rolled_back: usize,
    seconds: f64,
}

/// Trains a model, or goes on training it.
pub(crate) fn train(args: &TrainArgs) -> Result<(), Failure> {
    let init = args.init().map_err(Failure::Usage)?;
    let options = args.options(&init);
    let started = Instant::now();
    let open = if args.resume { RunFolder::resume } else { RunFolder::begin };
    let folder = open(&args.output, options.keep)?;
    let pool = Arc::new(ThreadPool::new(args.threads.unwrap_or_else(ThreadPool::default_threads))?);
    let (seed, teacher) = (args.seed, args.teacher().map_err(Failure::Usage)?.map(str::to_owned));
    let start = interrupt::or_done(move || Ok(start(init, teacher, seed)?))?;
    let cache = start.token_cache(&folder.tokens(), &pool);
    let data = TrainingData { train: tokens(&cache, &args.data)?, eval: tokens(&cache, &args.eval)? };
    let (outcome, rolled_back) = run(start, data, folder, &options, &pool)?;
    let Outcome::Trained(trained) = outcome else {
        output::note("stopped and saved; the same command with --resume goes on");
        return Err(Failure::Interrupted);
    };
    let eval_perplexity = trained.eval_loss.map(f64::exp);
    let report = Report { trained, eval_perplexity, rolled_back, seconds: started.elapsed().as_secs_f64() };
    if args.json { output::json(&report) } else { output::table(&rows(&report)) }
}

/// The model to begin with, and the one to learn from.
fn start(init: Init, teacher: Option<String>, seed: u64) -> bitnet_training::Result<Start> {
    let start = match init {
        Init::Model(model) => Start::model(&find(&model)?)?,
        Init::Student(model) => Start::student(&find(&model)?)?,
        Init::Adapter(model, lora) => Start::adapter(find(&model)?, &lora, seed)?,
        Init::Config(path) => Start::config(&path, seed)?,
        Init::Preset(preset) => Start::preset(preset, seed)?,
    };
    match teacher {
        Some(teacher) => start.with_teacher(&find(&teacher)?),
        None => Ok(start),
    }
}

fn find(model: &str) -> bitnet_training::Result<Checkpoint> {
    Ok(Checkpoint::find(Some(model), &GgufOptions::default())?)
}

/// The tokens of files, under a progress bar.
fn tokens(cache: &TokenCache<'_>, paths: &[PathBuf]) -> Result<Vec<TokenFile>, Failure> {
    let bar = output::progress_bar(0, "{bar:40} {bytes}/{total_bytes} tokenized, {eta} left");
    let mut progress = |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        if interrupt::is_pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let files: Result<_, _> = paths.iter().map(|path| cache.open(path, &mut progress)).collect();
    bar.finish_and_clear();
    Ok(files?)
}

/// The run, under a progress bar; and how often it went back.
fn run(
    start: Start,
    data: TrainingData,
    folder: RunFolder,
    options: &TrainOptions,
    pool: &Arc<ThreadPool>,
) -> Result<(Outcome, usize), Failure> {
    let mut trainer = Trainer::new(start, data, folder, options, pool)?;
    let bar = output::progress_bar(0, "{bar:40} step {pos}/{len}, {msg} left");
    bar.set_length(trainer.steps());
    bar.set_position(trainer.step());
    let mut watcher = Watcher { bar, eval_loss: None, rolled_back: 0 };
    let outcome = trainer.run(&mut watcher);
    watcher.bar.finish_and_clear();
    Ok((outcome?, watcher.rolled_back))
}

/// Shows how a run goes, and stops it at Ctrl-C.
struct Watcher {
    bar: ProgressBar,
    /// The last one.
    eval_loss: Option<f64>,
    rolled_back: usize,
}

impl Observer for Watcher {
    fn step(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        let Progress { metrics, left, .. } = *progress;
        self.eval_loss = metrics.eval_loss.or(self.eval_loss);
        let eval = self.eval_loss.map(|loss| format!(" (evaluation {loss:.3})")).unwrap_or_default();
        let left = indicatif::HumanDuration(left);
        self.bar.set_message(format!(
            "loss {:.3}{eval}, {:.0} tokens/s, {left:#}",
            metrics.loss, metrics.tokens_per_s
        ));
        self.bar.set_position(metrics.step);
        if interrupt::is_pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn sample(&mut self, sample: &Sample) {
        let Sample { step, prompt, text } = sample;
        self.bar.suspend(|| output::note(&format!("step {step}: {prompt}{text}")));
    }

    fn rolled_back(&mut self, event: &RolledBack) {
        self.rolled_back += 1;
        self.bar.suspend(|| output::note(&event.to_string()));
    }
}

fn rows(report: &Report) -> Vec<(&'static str, String)> {
    let Report { trained, eval_perplexity, rolled_back, seconds } = report;
    let [of, all] = [trained.trained_parameters, trained.parameters];
    let what = if of < all { "adapter" } else { "model" };
    let mut rows =
        vec![(what, trained.model.display().to_string()), ("steps", grouped(trained.steps as usize))];
    if of < all {
        let share = 100.0 * of as f64 / all as f64;
        rows.push(("trained", format!("{} parameters, {share:.2} % of all", grouped(of))));
    }
    if let Some(loss) = trained.loss {
        rows.push(("loss", format!("{loss:.4} nats per token in the last step")));
    }
    if let (Some(loss), Some(perplexity)) = (trained.eval_loss, eval_perplexity) {
        let of = format!("of step {}", grouped(trained.model_step as usize));
        rows.push(("evaluation", format!("{loss:.4} nats per token, perplexity {perplexity:.4}, {of}")));
    }
    if *rolled_back > 0 {
        rows.push(("went back", format!("{rolled_back} times")));
    }
    rows.push(("time", format!("{seconds:.1} s")));
    rows
}
