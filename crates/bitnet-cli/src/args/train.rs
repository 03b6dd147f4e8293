//! The command that trains.

use std::path::PathBuf;

use bitnet_training::autograd::NoteFormat;
use bitnet_training::nn::LoraOptions;
use bitnet_training::trainer::{Length, OptimizerName, Preset, RecipeName, SampleOptions, TrainOptions};
use clap::Args as ClapArgs;
use clap::builder::NonEmptyStringValueParser;

use super::distill::DistillArgs;
use super::values::{count, rate};

/// How `--init` asks for a new model.
const SCRATCH: &str = "scratch";

#[derive(Debug, ClapArgs)]
pub(crate) struct TrainArgs {
    /// Files to learn: texts, JSONL with "text" or "messages", token ids of NumPy
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) data: Vec<PathBuf>,
    /// Files to evaluate on: the model with the least loss there is the one written
    #[arg(long, value_name = "FILE")]
    pub(crate) eval: Vec<PathBuf>,
    /// scratch, or the model to begin with, a float master or packed: a folder, a GGUF file or a hub id [default: the teacher, or scratch]
    #[arg(long, value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    init: Option<String>,
    /// Train adapters of this rank beside the model of --init, which stays as it is
    #[arg(long, value_name = "RANK", value_parser = count, allow_negative_numbers = true)]
    lora: Option<usize>,
    /// Adapters count alpha / rank times [default: twice the rank]
    #[arg(long, value_name = "A", value_parser = rate, allow_negative_numbers = true, requires = "lora")]
    lora_alpha: Option<f64>,
    /// config.json of a new model; its tokenizer lies beside it, or is one of bytes
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    config: Option<PathBuf>,
    #[arg(long, value_name = "NAME", help = "Shape of a new model: tiny or mini [default: tiny]")]
    preset: Option<Preset>,
    #[arg(
        long,
        value_name = "NAME",
        help = "b1.58, finetune or distill [default: finetune for a model, else b1.58]"
    )]
    recipe: Option<RecipeName>,
    #[arg(long, value_name = "NAME", default_value_t = OptimizerName::AdamW, help = "adamw, or adamw-8bit: less memory")]
    optimizer: OptimizerName,
    #[command(flatten)]
    distill: DistillArgs,
    /// Steps to train
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true, conflicts_with = "epochs")]
    steps: Option<usize>,
    /// Times to go through the data [default: 1]
    #[arg(long, value_name = "F", value_parser = rate, allow_negative_numbers = true)]
    epochs: Option<f64>,
    /// Tokens of a step
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = count, allow_negative_numbers = true)]
    batch_tokens: usize,
    /// Parts in which the gradients of a step are computed: the same step in less memory
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count, allow_negative_numbers = true)]
    accumulate: usize,
    /// How activations wait for the backward pass: f32, or bf16 in half the memory
    #[arg(long, value_name = "TYPE", default_value_t = NoteFormat::Float32)]
    activation_dtype: NoteFormat,
    /// Tokens of a sequence [default: 256, or the context of the model]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    seq_len: Option<usize>,
    /// The greatest learning rate [default: 1.5e-3 of b1.58, 2e-4 of finetune, 1e-3 of distill, 2e-3 of adapters]
    #[arg(long, value_name = "F", value_parser = rate, allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Seed of new weights and of the order of the data
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Steps between evaluations [default: a tenth of all]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    eval_every: Option<usize>,
    /// Steps between checkpoints; one is written at each evaluation, too [default: a tenth of all]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    save_every: Option<usize>,
    /// Steps between texts of the model, which are shown and kept in DIR/samples.jsonl
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true, requires = "sample_prompt")]
    sample_every: Option<usize>,
    /// What these texts continue
    #[arg(long, value_name = "TEXT", requires = "sample_every", value_parser = NonEmptyStringValueParser::new())]
    sample_prompt: Option<String>,
    /// Where the written model lies on the way from that of --init (0) to the trained one (1)
    #[arg(
        long,
        value_name = "F",
        default_value_t = 1.0,
        value_parser = rate,
        allow_negative_numbers = true,
        requires = "init",
        conflicts_with = "lora"
    )]
    interpolate: f64,
    /// Number of threads [default: the physical cores this process may use]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// Go on with the run in the folder; begin it where there is none
    #[arg(long)]
    pub(crate) resume: bool,
    /// Folder of the run: checkpoints, metrics, loss curve, and the model in DIR/model
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a run begins with.
#[derive(Debug)]
pub(crate) enum Init {
    /// A model that is trained on.
    Model(String),
    /// A model that is trained on, or one in full precision that becomes a BitNet model first.
    Student(String),
    /// A model that stays as it is, with an adapter.
    Adapter(String, LoraOptions),
    /// A new model of a config.
    Config(PathBuf),
    /// A new model of a named shape.
    Preset(Preset),
}

impl TrainArgs {
    /// What to begin with. Errors: a line for options that exclude each other.
    pub(crate) fn init(&self) -> Result<Init, String> {
        let teacher = self.teacher()?;
        let is_said = self.init.is_some() || self.config.is_some() || self.preset.is_some();
        let init = self.init.as_deref().or(teacher.filter(|_| !is_said)).filter(|init| *init != SCRATCH);
        let lora = self.lora.map(|rank| LoraOptions { rank, alpha: self.lora_alpha });
        match (init, &self.config, self.preset) {
            (Some(model), None, None) => Ok(match (lora, teacher) {
                (Some(lora), _) => Init::Adapter(model.to_owned(), lora),
                (None, Some(_)) => Init::Student(model.to_owned()),
                (None, None) => Init::Model(model.to_owned()),
            }),
            (None, ..) if lora.is_some() => Err("--lora adapts a model: give --init MODEL".to_owned()),
            (Some(_), ..) => Err("--config and --preset are for new models, not for --init MODEL".to_owned()),
            (None, Some(config), _) => Ok(Init::Config(config.clone())),
            (None, None, preset) => Ok(Init::Preset(preset.unwrap_or(Preset::Tiny))),
        }
    }

    /// The model to learn from. Errors: a line for a recipe that has no use for it, or needs one.
    pub(crate) fn teacher(&self) -> Result<Option<&str>, String> {
        match (self.distill.teacher.as_deref(), self.recipe == Some(RecipeName::Distill)) {
            (Some(_), false) => Err("--teacher is for --recipe distill".to_owned()),
            (None, true) => Err("--recipe distill needs --teacher MODEL".to_owned()),
            (teacher, _) => Ok(teacher),
        }
    }

    /// How to train.
    pub(crate) fn options(&self, init: &Init) -> TrainOptions {
        let every = |steps: Option<usize>| steps.map(|steps| steps as u64);
        let default_recipe = match init {
            Init::Model(_) | Init::Student(_) | Init::Adapter(..) => RecipeName::Finetune,
            Init::Config(_) | Init::Preset(_) => RecipeName::B1_58,
        };
        TrainOptions {
            length: match self.steps {
                Some(steps) => Length::Steps(steps as u64),
                None => Length::Epochs(self.epochs.unwrap_or(1.0)),
            },
            recipe: self.recipe.unwrap_or(default_recipe),
            optimizer: self.optimizer,
            distill: self.distill.options(),
            learning_rate: self.lr.map(|lr| lr as f32),
            batch_tokens: self.batch_tokens,
            accumulate: self.accumulate,
            notes: self.activation_dtype,
            seq_len: self.seq_len,
            seed: self.seed,
            interpolate: self.interpolate as f32,
            eval_every: every(self.eval_every),
            save_every: every(self.save_every),
            samples: self
                .sample_every
                .zip(self.sample_prompt.clone())
                .map(|(steps, prompt)| SampleOptions { every: steps as u64, prompt }),
            ..TrainOptions::default()
        }
    }
}
