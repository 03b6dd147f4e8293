//! The commands that generate texts.

use std::path::PathBuf;
use std::sync::Arc;

use bitnet_inference::speculation::Source;
use bitnet_inference::{GenerateOptions, LoadedModel, Speculation};
use clap::Args as ClapArgs;
use clap::builder::NonEmptyStringValueParser;

use super::model::ModelArgs;
use super::sampling::SamplingArgs;
use super::values::{batch, count, size};
use crate::failure::Failure;

#[derive(Debug, ClapArgs)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) prompt: PromptArgs,
    #[command(flatten)]
    pub(crate) generate: GenerateArgs,
    /// With --json: the log-probability of each token, and of the N most probable ones in its place
    #[arg(long, value_name = "N", requires = "json")]
    logprobs: Option<usize>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Print one JSON object instead of the text
    #[arg(long)]
    pub(crate) json: bool,
}

impl RunArgs {
    /// As the library takes them, without guesses.
    pub(crate) fn options(&self) -> Result<GenerateOptions, Failure> {
        let mut options = self.generate.options()?;
        options.sampling.logprobs = self.logprobs;
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
    draft: Option<String>,
    /// Guesses of a step [default: as many as are worth their time]
    #[arg(long, value_name = "N", requires = "guesser", value_parser = count, allow_negative_numbers = true)]
    guesses: Option<usize>,
}

impl SpeculationArgs {
    /// Loads a model, and what guesses for it.
    pub(crate) fn load(&self, model: &ModelArgs) -> Result<(Arc<LoadedModel>, Option<Speculation>), Failure> {
        let loaded = model.clone().load()?;
        let source = match &self.draft {
            Some(draft) => Some(Source::Draft(model.beside(draft.clone()).load()?)),
            None => self.speculate.clone(),
        };
        let speculation = source.map(|source| Speculation { source, guesses: self.guesses });
        speculation.as_ref().map_or(Ok(()), |speculation| speculation.check_for(&loaded))?;
        Ok((loaded, speculation))
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
    pub(crate) speculation: SpeculationArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl GenerateArgs {
    /// As the library takes them, without guesses: those may need a model.
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
