//! Whole runs of a very small model.

mod accumulate;
mod distill;
mod export;
mod interpolation;
mod lora;
mod packed;
mod refusals;
mod resume;
mod samples;
mod trouble;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitnet_core::Tensor;
use bitnet_core::ThreadPool;
use tempfile::TempDir;

use super::{Length, Observer, Outcome, Progress, RolledBack, RunFolder, Start, TrainOptions, Trained};
use super::{Trainer, TrainingData};
use crate::Result;
use crate::metrics::{self, Metrics};
use crate::nn::Parameter;

const CONFIG: &str = r#"{
    "model_type": "bitnet", "vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "hidden_act": "relu2", "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true
}"#;

const SEQ_LEN: usize = 32;

/// Files to train on, and a place for runs.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), CONFIG).unwrap();
        let sentence = |i: usize| format!("The {i}th of them has {} sides and {} corners.\n", i * 7, i * i);
        let text = |range: std::ops::Range<usize>| range.map(sentence).collect::<String>();
        fs::write(folder.path().join("train.txt"), text(0..60)).unwrap();
        fs::write(folder.path().join("eval.txt"), text(60..72)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, seed: u64) -> Result<Start> {
        Start::config(&self.path("config.json"), seed)
    }

    /// A run in the folder `run`, which goes on where there is one.
    fn trainer(&self, run: &str, options: &TrainOptions, threads: usize) -> Result<Trainer> {
        self.trainer_of(self.start(options.seed)?, run, options, threads)
    }

    fn trainer_of(&self, start: Start, run: &str, options: &TrainOptions, threads: usize) -> Result<Trainer> {
        let pool = Arc::new(ThreadPool::new(threads).unwrap());
        let folder = RunFolder::resume(&self.path(run), options.keep)?;
        let cache = start.token_cache(&folder.tokens(), &pool);
        let read = |name| cache.open(&self.path(name), &mut |_, _| ControlFlow::Continue(()));
        let data = TrainingData { train: vec![read("train.txt")?], eval: vec![read("eval.txt")?] };
        Trainer::new(start, data, folder, options, &pool)
    }

    fn metrics(&self, run: &str) -> Vec<Metrics> {
        metrics::read(&self.path(run).join("metrics.jsonl")).unwrap()
    }
}

fn options(steps: u64) -> TrainOptions {
    TrainOptions {
        length: Length::Steps(steps),
        batch_tokens: 4 * SEQ_LEN,
        seq_len: Some(SEQ_LEN),
        seed: 5,
        eval_every: Some(2),
        save_every: Some(100),
        ..TrainOptions::default()
    }
}

fn trained(outcome: Outcome) -> Trained {
    match outcome {
        Outcome::Trained(trained) => trained,
        Outcome::Stopped { step } => panic!("stopped at {step}"),
    }
}

fn bits(trainer: &Trainer) -> Vec<u32> {
    let values = |parameter: &Parameter| parameter.variable().value().to_vec::<f32>().unwrap();
    trainer.parameters.iter().flat_map(values).map(f32::to_bits).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Stops a run behind a step.
struct StopAt(u64);

impl Observer for StopAt {
    fn step(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        if progress.metrics.step == self.0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Multiplies the embedding by a factor behind a step, once or whenever it comes there.
struct Poison {
    embedding: Parameter,
    factor: f32,
    at: u64,
    times: usize,
    events: Vec<RolledBack>,
}

impl Poison {
    fn new(trainer: &Trainer, factor: f32, at: u64) -> Self {
        Self { embedding: trainer.parameters[0].clone(), factor, at, times: 1, events: Vec::new() }
    }

    fn poison(&self) {
        let value = self.embedding.variable().value();
        let values: Vec<f32> = value.to_vec::<f32>().unwrap().into_iter().map(|x| x * self.factor).collect();
        self.embedding.variable().set_value(Tensor::from_vec(values, value.dims()).unwrap()).unwrap();
    }
}

impl Observer for Poison {
    fn step(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        if progress.metrics.step == self.at && self.times > 0 {
            self.times -= 1;
            self.poison();
        }
        ControlFlow::Continue(())
    }

    fn rolled_back(&mut self, event: &RolledBack) {
        self.events.push(*event);
        if self.times > 0 {
            self.times -= 1;
            self.poison();
        }
    }
}
