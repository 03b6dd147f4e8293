//! The command line.

use std::path::PathBuf;

use bitnet_core::Device;
use bitnet_inference::{EngineOptions, GenerateOptions, SamplingOptions};
use clap::{Args as ClapArgs, Parser, Subcommand};

/// Run BitNet b1.58 models.
#[derive(Debug, Parser)]
#[command(name = "bitnet", version, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Continue a prompt: bitnet run -p "My fellow citizens, today we"
    Run(RunArgs),
    /// Say what a model is and what it costs to run: bitnet inspect ./model
    Inspect(InspectArgs),
    /// Measure perplexity on a text: bitnet eval ./model --text wiki.txt
    Eval(EvalArgs),
    /// Look at this machine: instruction sets, memory bandwidth, a self-test of every kernel
    Doctor(DoctorArgs),
}

/// The model and where it runs.
#[derive(Debug, ClapArgs)]
pub(crate) struct ModelArgs {
    /// A folder, or a hub id like microsoft/bitnet-b1.58-2B-4T; without one the embedded bitnet-tiny
    pub(crate) model: Option<String>,
    /// Number of threads [default: the physical cores this process may use]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Where to run: auto or cpu
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: Device,
}

impl ModelArgs {
    /// As the engine takes them.
    pub(crate) fn options(&self) -> EngineOptions {
        EngineOptions { device: self.device, threads: self.threads, isa: None }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The prompt
    #[arg(short, long, value_name = "TEXT", required_unless_present = "file", conflicts_with = "file")]
    pub(crate) prompt: Option<String>,
    /// A file that holds the prompt; - reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The most tokens to generate
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128)]
    pub(crate) max_tokens: usize,
    /// Divides the logits; 0 takes the most probable token
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) temperature: f32,
    /// Keep the N most probable tokens; 0 keeps all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Keep the most probable tokens that together reach this probability
    #[arg(long, value_name = "F", default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) top_p: f32,
    /// Drop tokens less probable than this share of the most probable one
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) min_p: f32,
    /// Make tokens that were there already less probable; 1 does nothing
    #[arg(long, value_name = "F", default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) repetition_penalty: f32,
    /// Seed of the random numbers: the same seed gives the same text
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// End at this text, which is not printed; may be given several times
    #[arg(long, value_name = "S")]
    pub(crate) stop: Vec<String>,
    /// Print one JSON object instead of the text
    #[arg(long)]
    pub(crate) json: bool,
}

impl RunArgs {
    /// As the engine takes them.
    pub(crate) fn options(&self) -> GenerateOptions {
        GenerateOptions {
            max_tokens: self.max_tokens,
            sampling: SamplingOptions {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repetition_penalty: self.repetition_penalty,
                seed: self.seed,
            },
            stop: self.stop.clone(),
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct InspectArgs {
    /// A folder, or a hub id; without one the embedded bitnet-tiny
    pub(crate) model: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The text
    #[arg(long, value_name = "FILE")]
    pub(crate) text: PathBuf,
    /// Tokens per window; each window starts with an empty context
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) window: usize,
    /// Evaluate this many windows at most
    #[arg(long, value_name = "N")]
    pub(crate) max_windows: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    /// Number of threads [default: the physical cores this process may use]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
