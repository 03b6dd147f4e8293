//! The command line.

use std::path::PathBuf;
use std::sync::Arc;

use bitnet_benchmarks::Synthetic;
use bitnet_core::{ByteSize, Device};
use bitnet_inference::backend::KvType;
use bitnet_inference::backend::cpu::CpuOptions;
use bitnet_inference::config::ActivationMode;
use bitnet_inference::convert::{HeadType, Target};
use bitnet_inference::speculation::Source;
use bitnet_inference::{GenerateOptions, GgufOptions, LoadOptions, LoadedModel, Speculation};
use bitnet_quant::{Packing, Precision};
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::failure::Failure;
use crate::interrupt;
use crate::sampling::SamplingArgs;

/// Run BitNet b1.58 models.
#[derive(Debug, Parser)]
#[command(name = "bitnet", bin_name = "bitnet", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bitnet run -p \"My fellow citizens, today we\"
  bitnet run microsoft/bitnet-b1.58-2B-4T -p \"Once upon a time\" -n 200 --temperature 0.8
  bitnet chat ./model
  bitnet batch ./model -i prompts.txt -o results.jsonl
  bitnet inspect ./model
  bitnet eval ./model --text wiki.txt
  bitnet bench ./model
  bitnet convert ./model model.gguf
  bitnet verify ./model
  bitnet quantize ./master --report out.html
  bitnet doctor";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Continue a prompt: the text goes to standard output, statistics to standard error
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Talk with a model that has a chat template
    #[command(after_help = CHAT_EXAMPLES)]
    Chat(ChatArgs),
    /// Continue every prompt of a file, many at once; can be stopped and resumed
    #[command(after_help = BATCH_EXAMPLES)]
    Batch(BatchArgs),
    /// Say what a model is and what it costs to run
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(InspectArgs),
    /// Measure the perplexity of a model on a text
    #[command(after_help = EVAL_EXAMPLES)]
    Eval(EvalArgs),
    /// Measure the speed of a model beside what this machine can read and multiply
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Write a model in another form, its ternary weights untouched
    #[command(after_help = CONVERT_EXAMPLES)]
    Convert(ConvertArgs),
    /// Look for the mistakes that conversions make: exits with 1 when there is one
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Measure what quantization does to each layer of a float model, and to what it predicts
    #[command(after_help = QUANTIZE_EXAMPLES)]
    Quantize(QuantizeArgs),
    /// Look at this machine: instruction sets, read bandwidth, a self-test of every kernel
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
}

const RUN_EXAMPLES: &str = "\
Examples:
  bitnet run -p \"My fellow citizens, today we\"              the embedded model, no download
  bitnet run ./model -p \"The capital of France is\" -n 20    a folder with config.json
  bitnet run ./model.gguf -p \"Once upon a time\"            a GGUF file
  bitnet run -p \"Once\" --temperature 0.8 --seed 7           random, and the same again
  bitnet run -p \"In\" --regex \"[A-Z][a-z]+\\.\"                a text that matches, and ends there
  bitnet run -p \"In the beginning\" --stop \".\" --stop \"!\"    one sentence
  bitnet run ./model -f code.txt --speculate lookup        faster where the text repeats its prompt
  cat prompt.txt | bitnet run -f - --json                  a prompt from a pipe, all figures";

const CHAT_EXAMPLES: &str = "\
Examples:
  bitnet chat ./model
  bitnet chat ./model --system \"You answer in one sentence.\" --temperature 0.7
  bitnet chat < questions.txt                       a question a line, answers to standard output

/help lists the commands of a chat. Ctrl-C stops an answer, Ctrl-D ends the chat.";

const BATCH_EXAMPLES: &str = "\
Examples:
  bitnet batch ./model -i prompts.txt -o results.jsonl -n 64
  bitnet batch ./model -i questions.csv --field question -o answers.csv --chat
  bitnet batch ./model -i prompts.jsonl -o results.jsonl --temperature 0.8 --seed 7 --resume

Formats go by the ending. txt is a prompt a line, with \\n for a newline and \\\\ for a backslash; jsonl has a string or an
object a line, csv a header. Results have the order of the prompts and are gathered in RESULTS.partial; killed at any point,
the same command with --resume goes on there. A prompt that fails has an error in its row: the exit status is then 1.";

const INSPECT_EXAMPLES: &str = "\
Examples:
  bitnet inspect
  bitnet inspect ./model --json
  bitnet inspect ./model.gguf                       with what the file leaves open and how it was decided";

const EVAL_EXAMPLES: &str = "\
Examples:
  bitnet eval --text wiki.txt
  bitnet eval ./model --text wiki.txt --window 1024 --max-windows 20 --json";

const BENCH_EXAMPLES: &str = "\
Examples:
  bitnet bench                                          the embedded model: pp512 and tg128
  bitnet bench ./model -p 128,512 -n 0 -t 1,2           prompts of two lengths, on one thread and on two
  bitnet bench ./model -p 0 -b 1,8,32                   decode one sequence, and 8 and 32 at once
  bitnet bench --synthetic 2b-4t --json                 random weights in the shape of bitnet-b1.58-2B-4T
  bitnet bench --synthetic 2b-4t --save ./2b-4t         the same weights as a folder, for other programs

pp<N> reads a prompt of N random tokens; tg<N> decodes N tokens one by one behind a prompt of 4, \
tg<N> x<B> those of B sequences at once. The decode score is
the median tokens/s divided by the read bandwidth in GB/s, the prefill share the part of the int8 peak that the ternary
products make use of; bandwidth and peak are medians of samples taken between the repetitions, on the same threads.";

const CONVERT_EXAMPLES: &str = "\
Examples:
  bitnet convert ./model model.gguf                               I2_S, for bitnet.cpp
  bitnet convert ./model model.gguf --to gguf-tq2_0 --head q8_0   for llama.cpp
  bitnet convert model.gguf ./model                               a packed Hugging Face folder
  bitnet convert ./model ./master --to bf16                       masters, to train on

hf and hf-bitlinear are packed, with scales that multiply and that divide; bf16 holds float masters, those of the source
or, of a source without, such that give the same codes and scales. What is at the destination is never written over.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  bitnet verify ./model
  bitnet verify model.gguf --against ./model       the same codes, scales and logits?
  bitnet verify ./model --json                     with statistics of every ternary matrix

The model reads some English sentences as it is and as if each of the known mistakes had been made. When it reads them
better with a mistake, that mistake was made before.";

const QUANTIZE_EXAMPLES: &str = "\
Examples:
  bitnet quantize ./master                                      a ranked table, on a built-in text
  bitnet quantize ./master --text wiki.txt --report out.html --report out.png
  bitnet quantize ./llama --precisions absmean,int2,int4 --min-sqnr 12
  bitnet quantize ./packed --reference ./master                 what packed weights lost

The float model reads the text beside its quantized form. Each linear is measured on what it really multiplies: the
signal to noise, cosine and mean square error of its outputs with weights of each precision; \"input int8\" is what rounding
its input to int8 leaves. Recommended are the fewest bits that reach --min-sqnr. Nothing is written but reports.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  bitnet doctor
  BITNET_ISA=scalar bitnet doctor --json    with an instruction set forced";

/// Sequences at once that no machine has enough of.
const MAX_BATCH: usize = 1024;

/// The model and where it runs.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ModelArgs {
    /// A folder, a GGUF file, or a hub id like microsoft/bitnet-b1.58-2B-4T; without one the embedded bitnet-tiny
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    model: Option<String>,
    /// Number of threads [default: the physical cores this process may use]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    threads: Option<usize>,
    /// Where to run: auto or cpu
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: Device,
    #[command(flatten)]
    cpu: CpuArgs,
    #[command(flatten)]
    gguf: GgufArgs,
    #[command(flatten)]
    activations: ActivationArgs,
}

/// What ternary linears multiply.
#[derive(Debug, Clone, Copy, Default, ClapArgs)]
pub(crate) struct ActivationArgs {
    /// What ternary weights multiply: int8 or float [default: what the checkpoint says, see `bitnet inspect`]
    #[arg(long = "activations", value_name = "MODE")]
    pub(crate) mode: Option<ActivationMode>,
}

/// What a GGUF file leaves open.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct GgufArgs {
    #[arg(
        long = "gguf",
        value_name = "WHAT",
        default_value = "",
        hide_default_value = true,
        help = "Decide what a GGUF file leaves open: activation=relu2|silu|gelu, i2_s=128|64, pre=NAME, with commas"
    )]
    pub(crate) options: GgufOptions,
}

/// How a model runs on the CPU.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct CpuArgs {
    /// How keys and values are stored: f32 loses nothing, f16 and int8 take less memory
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    kv_cache: KvType,
    /// How ternary weights are packed: bits2 or base3 [default: the faster one, measured]
    #[arg(long, value_name = "PACKING")]
    packing: Option<Packing>,
}

impl CpuArgs {
    pub(crate) fn options(self) -> CpuOptions {
        CpuOptions { isa: None, packing: self.packing, kv_cache: self.kv_cache }
    }
}

impl ModelArgs {
    /// The model, as it was named.
    pub(crate) fn name(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// How keys and values are stored.
    pub(crate) fn kv_type(&self) -> KvType {
        self.cpu.kv_cache
    }

    /// Another model, to run beside this one.
    pub(crate) fn beside(&self, model: String) -> Self {
        let (device, gguf, activations) = (self.device, GgufArgs::default(), ActivationArgs::default());
        Self { model: Some(model), threads: self.threads, device, cpu: self.cpu, gguf, activations }
    }

    /// Loads the model, unless Ctrl-C comes first.
    pub(crate) fn load(self) -> Result<Arc<LoadedModel>, Failure> {
        let options = LoadOptions {
            device: self.device,
            threads: self.threads,
            cpu: self.cpu.options(),
            gguf: self.gguf.options,
            activations: self.activations.mode,
        };
        interrupt::or_done(move || Ok(LoadedModel::load(self.model.as_deref(), &options)?))
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) prompt: PromptArgs,
    #[command(flatten)]
    generate: GenerateArgs,
    /// With --json: the log-probability of each token, and of the N most probable ones in its place
    #[arg(long, value_name = "N", requires = "json")]
    logprobs: Option<usize>,
    #[command(flatten)]
    pub(crate) speculation: SpeculationArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Print one JSON object instead of the text
    #[arg(long)]
    pub(crate) json: bool,
}

impl RunArgs {
    /// As the library takes them.
    pub(crate) fn options(&self) -> Result<GenerateOptions, Failure> {
        let mut options = self.generate.options()?;
        options.sampling.logprobs = self.logprobs;
        options.speculation = self.speculation.speculation(None);
        Ok(options)
    }
}

/// Where guesses of the next tokens come from.
#[derive(Debug, ClapArgs)]
pub(crate) struct SpeculationArgs {
    /// Guess the next tokens and check several at once, which gives the same text, and faster where it repeats its
    /// prompt: lookup
    #[arg(long, value_name = "FROM", group = "guesser")]
    speculate: Option<Source>,
    /// Guess with this smaller model, which has the same tokens: a folder, a GGUF file, or a hub id
    #[arg(long, value_name = "MODEL", group = "guesser", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) draft: Option<String>,
    /// Guesses of a step [default: as many as are worth their time]
    #[arg(long, value_name = "N", requires = "guesser", value_parser = count, allow_negative_numbers = true)]
    guesses: Option<usize>,
}

impl SpeculationArgs {
    /// As the library takes it, with the model that [`Self::draft`] names.
    pub(crate) fn speculation(&self, draft: Option<Arc<LoadedModel>>) -> Option<Speculation> {
        let source = draft.map(Source::Draft).or_else(|| self.speculate.clone())?;
        Some(Speculation { source, guesses: self.guesses })
    }
}

/// Where the prompt comes from.
#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub(crate) struct PromptArgs {
    /// The prompt
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,
    /// A file that holds the prompt, used to its last byte; - reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// How a text is generated.
#[derive(Debug, ClapArgs)]
pub(crate) struct GenerateArgs {
    /// The most tokens to generate
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128, value_parser = count, allow_negative_numbers = true)]
    max_tokens: usize,
    /// End at this text, which is not printed; may be given several times
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    stop: Vec<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl GenerateArgs {
    /// As the library takes them.
    pub(crate) fn options(&self) -> Result<GenerateOptions, Failure> {
        let sampling = self.sampling.options()?;
        let stop = self.stop.clone();
        Ok(GenerateOptions { max_tokens: self.max_tokens, sampling, stop, speculation: None })
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ChatArgs {
    /// What the system says before the first question
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,
    /// The most tokens of the conversation that the model sees [default: the context of the model]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(crate) context: Option<usize>,
    #[command(flatten)]
    pub(crate) generate: GenerateArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BatchArgs {
    /// The prompts: NAME.txt, NAME.jsonl or NAME.csv
    #[arg(short, long, value_name = "PROMPTS")]
    pub(crate) input: PathBuf,
    /// The file of results to write: NAME.jsonl, NAME.csv or NAME.txt, the texts alone
    #[arg(short, long, value_name = "RESULTS")]
    pub(crate) output: PathBuf,
    /// Where a row has its prompt: the field of an object, the column of a table
    #[arg(long, value_name = "NAME", default_value = "prompt")]
    pub(crate) field: String,
    /// Sequences that run at once
    #[arg(long, value_name = "N", default_value = "32", value_parser = batch, allow_negative_numbers = true)]
    pub(crate) batch_size: usize,
    /// Memory for the keys and values of all sequences, as 2GiB or 500MB
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = size)]
    pub(crate) kv_memory: usize,
    /// Put each prompt as a question, through the chat template
    #[arg(long)]
    pub(crate) chat: bool,
    /// What the system says before each question; implies --chat
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,
    /// Go on where a run of the same command ended
    #[arg(long)]
    pub(crate) resume: bool,
    /// Begin anew, and replace what is at RESULTS in the end
    #[arg(long, conflicts_with = "resume")]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) generate: GenerateArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

impl BatchArgs {
    /// Whether prompts go through the chat template.
    pub(crate) fn is_chat(&self) -> bool {
        self.chat || self.system.is_some()
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct InspectArgs {
    /// A folder, a GGUF file, or a hub id like microsoft/bitnet-b1.58-2B-4T; without one the embedded bitnet-tiny
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) gguf: GgufArgs,
    #[command(flatten)]
    pub(crate) activations: ActivationArgs,
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
    #[command(flatten)]
    pub(crate) cpu: CpuArgs,
    #[command(flatten)]
    pub(crate) gguf: GgufArgs,
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

/// The name of a synthetic model.
fn synthetic() -> impl TypedValueParser<Value = Synthetic> {
    PossibleValuesParser::new(Synthetic::ALL.map(|synthetic| synthetic.name))
        .try_map(|name| Synthetic::parse(&name).ok_or("there is no such shape"))
}

/// A number of tokens, perhaps none.
fn length(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "a whole number is needed".to_owned())
}

/// A number of sequences at once.
fn batch(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|batch| (1..=MAX_BATCH).contains(batch))
        .ok_or_else(|| format!("a whole number from 1 to {MAX_BATCH} is needed"))
}

/// A number of bytes, at least one.
fn size(text: &str) -> Result<usize, String> {
    match text.parse::<ByteSize>().ok().and_then(|size| usize::try_from(size.bytes()).ok()) {
        None | Some(0) => Err("a size like 5GB, 200MB or 1000000 is needed".to_owned()),
        Some(size) => Ok(size),
    }
}

/// A number, perhaps infinite.
fn number(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number: &f64| !number.is_nan()).ok_or_else(|| "a number is needed".to_owned())
}

/// A number of things, at least one.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number of at least 1 is needed".to_owned()),
        Ok(count) => Ok(count),
    }
}
