//! The commands that look at models, measure them and write them.

use std::path::PathBuf;

use bitnet_benchmarks::Synthetic;
use bitnet_core::Device;
use bitnet_inference::convert::{HeadType, Target};
use bitnet_quant::Precision;
use clap::Args as ClapArgs;
use clap::builder::NonEmptyStringValueParser;

use super::model::{ActivationArgs, AdapterArgs, CpuArgs, GgufArgs, ModelArgs};
use super::values::{batch, count, length, number, size, synthetic};

#[derive(Debug, ClapArgs)]
pub(crate) struct InspectArgs {
    /// A folder, a GGUF file, or a hub id like microsoft/bitnet-b1.58-2B-4T; without one the embedded bitnet-tiny
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) gguf: GgufArgs,
    #[command(flatten)]
    pub(crate) activations: ActivationArgs,
    #[command(flatten)]
    pub(crate) adapter: AdapterArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct EvalArgs {
    /// A file that holds the text; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) text: PathBuf,
    /// Tokens per window; each window starts with an empty context
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = count, allow_negative_numbers = true)]
    pub(crate) window: usize,
    /// Evaluate this many windows at most [default: the whole text]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(crate) max_windows: Option<usize>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BenchArgs {
    /// A folder, a GGUF file, or a hub id like microsoft/bitnet-b1.58-2B-4T; without one the embedded bitnet-tiny
    #[arg(value_parser = NonEmptyStringValueParser::new(), conflicts_with = "synthetic")]
    pub(crate) model: Option<String>,
    /// A model of this shape with random weights, made in memory
    #[arg(long, value_name = "SHAPE", value_parser = synthetic())]
    pub(crate) synthetic: Option<Synthetic>,
    /// Tokens of the prompts to read, separated by commas; 0 reads none
    #[arg(
        short = 'p',
        long,
        value_name = "N",
        default_value = "512",
        value_parser = length,
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub(crate) n_prompt: Vec<usize>,
    /// Tokens to decode, separated by commas; 0 decodes none
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value = "128",
        value_parser = length,
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub(crate) n_gen: Vec<usize>,
    /// Sequences decoded at once, separated by commas
    #[arg(
        short,
        long,
        value_name = "N",
        default_value = "1",
        value_parser = batch,
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub(crate) batch: Vec<usize>,
    /// Numbers of threads, separated by commas [default: the physical cores this process may use]
    #[arg(short, long, value_name = "N", value_parser = count, value_delimiter = ',', allow_negative_numbers = true)]
    pub(crate) threads: Vec<usize>,
    /// Times each test is run, after one run to warm up
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = count, allow_negative_numbers = true)]
    pub(crate) repetitions: usize,
    /// Where to run: cpu, metal, or auto
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: Device,
    #[command(flatten)]
    pub(crate) cpu: CpuArgs,
    #[command(flatten)]
    pub(crate) gguf: GgufArgs,
    #[command(flatten)]
    pub(crate) adapter: AdapterArgs,
    /// Memory to read while the bandwidth is measured: several times the last-level cache
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = count, allow_negative_numbers = true)]
    pub(crate) bandwidth_mib: usize,
    /// Write the synthetic model to this folder, which must be new or empty, instead of measuring
    #[arg(long, value_name = "DIR", requires = "synthetic")]
    pub(crate) save: Option<PathBuf>,
    /// Print one JSON list, an object for each test
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ConvertArgs {
    /// A folder, a GGUF file, or a hub id like microsoft/bitnet-b1.58-2B-4T
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) source: String,
    /// The folder or file to write; nothing may be there yet
    pub(crate) destination: PathBuf,
    #[arg(
        long,
        value_name = "FORM",
        help = "hf, hf-bitlinear, bf16, gguf-i2_s, gguf-tq2_0 or gguf-tq1_0 [default: gguf-i2_s for NAME.gguf, else hf]"
    )]
    pub(crate) to: Option<Target>,
    #[arg(
        long,
        value_name = "TYPE",
        help = "Type of embedding and head: f16, bf16, or for GGUF q8_0, q6_k [default: one that loses nothing]"
    )]
    pub(crate) head: Option<HeadType>,
    /// The most bytes of tensors in one file, as 5GB or 200MB [default: 5GB in a folder, all in one GGUF file]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) shard_size: Option<usize>,
    /// Write even what loses something, and say what
    #[arg(long)]
    pub(crate) lossy: bool,
    #[command(flatten)]
    pub(crate) gguf: GgufArgs,
    /// Number of threads [default: the physical cores this process may use]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct MergeArgs {
    /// Float masters of one shape: folders or hub ids
    #[arg(required = true, num_args = 2.., value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) models: Vec<String>,
    /// How much each model counts, separated by commas; divided by their sum [default: all the same]
    #[arg(long, value_name = "W", value_parser = number, value_delimiter = ',', allow_negative_numbers = true)]
    pub(crate) weights: Option<Vec<f64>>,
    /// The folder to write; nothing may be there yet
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Number of threads [default: the physical cores this process may use]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct VerifyArgs {
    /// A folder, a GGUF file, or a hub id like microsoft/bitnet-b1.58-2B-4T; without one the embedded bitnet-tiny
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) model: Option<String>,
    /// Another form of the same model, to compare with
    #[arg(long, value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) against: Option<String>,
    #[command(flatten)]
    pub(crate) gguf: GgufArgs,
    /// Number of threads [default: the physical cores this process may use]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct QuantizeArgs {
    /// A float model: a folder, a GGUF file, or a hub id; or a quantized form of --reference
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) model: String,
    /// The float model that MODEL was made from
    #[arg(long, value_name = "FLOAT_MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) reference: Option<String>,
    /// A file that holds the text to read; - reads standard input [default: some everyday English]
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,
    /// Read this many tokens of the text at most
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = count, allow_negative_numbers = true)]
    pub(crate) tokens: usize,
    /// Write a report to this new file, NAME.html or NAME.png; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) report: Vec<PathBuf>,
    /// Write the packed ternary model to this new folder, and measure only for a --report
    #[arg(short, long, value_name = "DIR", conflicts_with = "reference")]
    pub(crate) output: Option<PathBuf>,
    /// What to measure, separated by commas: absmean, absmedian, threshold, sign, int2, int4, int8; the first one ranks
    #[arg(long, value_name = "NAMES", default_value = "absmean,int4,int8", value_delimiter = ',')]
    pub(crate) precisions: Vec<Precision>,
    /// Recommend the fewest bits whose outputs have this signal to noise, dB
    #[arg(long, value_name = "DB", default_value_t = 10.0, value_parser = number, allow_negative_numbers = true)]
    pub(crate) min_sqnr: f64,
    #[command(flatten)]
    pub(crate) gguf: GgufArgs,
    /// Number of threads [default: the physical cores this process may use]
    #[arg(short, long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    /// Number of threads [default: the physical cores this process may use]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
