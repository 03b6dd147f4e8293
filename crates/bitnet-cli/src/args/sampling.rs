//! The options that say how tokens are chosen.

use bitnet_inference::{ConstraintSpec, DryOptions, MirostatOptions, SamplingOptions};
use clap::Args;

use super::values::count;
use crate::failure::Failure;
use crate::text;

/// How tokens are chosen; llama.cpp's names are understood, too.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Divides the logits; 0 takes the most probable token
    #[arg(long, alias = "temp", value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f32,
    /// Vary the temperature by this much in both directions, with the entropy
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    dynatemp_range: f32,
    /// How the temperature follows the entropy
    #[arg(
        long,
        alias = "dynatemp-exp",
        value_name = "F",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    dynatemp_exponent: f32,
    /// Apply the temperature behind all filters, as llama.cpp does
    #[arg(long)]
    temperature_last: bool,
    /// Keep the N most probable tokens; 0 keeps all
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    top_k: usize,
    /// Keep the most probable tokens that together reach this probability
    #[arg(long, value_name = "F", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f32,
    /// Drop tokens less probable than this share of the most probable one
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f32,
    /// Keep the most typical tokens that together reach this probability
    #[arg(long, alias = "typical", value_name = "F", default_value_t = 1.0, allow_negative_numbers = true)]
    typical_p: f32,
    /// Drop logits more than this many standard deviations below the largest; 0 keeps all
    #[arg(
        long,
        alias = "top-nsigma",
        value_name = "F",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    top_n_sigma: f32,
    /// How often all but the last of the top choices are dropped
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    xtc_probability: f32,
    /// Probability of a top choice
    #[arg(long, value_name = "F", default_value_t = 0.1, allow_negative_numbers = true)]
    xtc_threshold: f32,
    /// 2 for Mirostat 2, which replaces the filters above
    #[arg(long, value_name = "N", default_value = "0", value_parser = ["0", "2"])]
    mirostat: String,
    /// Information that Mirostat aims at, in bits per token
    #[arg(
        long,
        alias = "mirostat-ent",
        value_name = "F",
        default_value_t = 5.0,
        allow_negative_numbers = true
    )]
    mirostat_tau: f32,
    /// How fast Mirostat learns
    #[arg(
        long,
        alias = "mirostat-lr",
        value_name = "F",
        default_value_t = 0.1,
        allow_negative_numbers = true
    )]
    mirostat_eta: f32,
    /// Make tokens that were there already less probable; 1 does nothing
    #[arg(
        long,
        alias = "repeat-penalty",
        value_name = "F",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    repetition_penalty: f32,
    /// Take this off the logits of tokens that were there
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// Take this off the logit of a token for each time it was there
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// Tokens that the three penalties look back [default: all]
    #[arg(long, value_name = "N")]
    repeat_last_n: Option<usize>,
    /// Penalise what goes on with a repeated sequence; 0 does nothing
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    dry_multiplier: f32,
    /// Growth of that penalty for each token of the sequence
    #[arg(long, value_name = "F", default_value_t = 1.75, allow_negative_numbers = true)]
    dry_base: f32,
    /// Length from which a repeated sequence is penalised
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = count, allow_negative_numbers = true)]
    dry_allowed_length: usize,
    /// Tokens that are searched for repetitions [default: all]
    #[arg(long, value_name = "N")]
    dry_penalty_last_n: Option<usize>,
    /// Text that no sequence goes across, several times for several [default: newline, colon, quote and star]
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    dry_sequence_breaker: Vec<String>,
    /// Add to the logit of a token, as 15=-2.5 or 15=-inf; may be given several times
    #[arg(long, value_name = "ID=F", value_parser = bias)]
    logit_bias: Vec<(u32, f32)>,
    /// Write a text that matches this regular expression as a whole
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true, conflicts_with = "json_schema")]
    regex: Option<String>,
    /// Write JSON that fits this schema: a file, or the schema itself
    #[arg(long, value_name = "FILE|JSON")]
    json_schema: Option<String>,
    /// Seed of the random numbers: the same seed gives the same text [default: a new one]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<u64>,
}

impl SamplingArgs {
    /// As the library takes them.
    pub(crate) fn options(&self) -> Result<SamplingOptions, Failure> {
        let Self { mirostat_tau: tau, mirostat_eta: eta, .. } = *self;
        Ok(SamplingOptions {
            temperature: self.temperature,
            dynatemp_range: self.dynatemp_range,
            dynatemp_exponent: self.dynatemp_exponent,
            temperature_last: self.temperature_last,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            top_n_sigma: self.top_n_sigma,
            xtc_probability: self.xtc_probability,
            xtc_threshold: self.xtc_threshold,
            mirostat: (self.mirostat == "2").then_some(MirostatOptions { tau, eta }),
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            repeat_last_n: self.repeat_last_n,
            dry: self.dry(),
            logit_bias: self.logit_bias.iter().copied().collect(),
            constraint: self.constraint()?,
            logprobs: None,
            seed: self.seed,
        })
    }

    fn dry(&self) -> DryOptions {
        let DryOptions { sequence_breakers, .. } = DryOptions::default();
        let given = &self.dry_sequence_breaker;
        DryOptions {
            multiplier: self.dry_multiplier,
            base: self.dry_base,
            allowed_length: self.dry_allowed_length,
            penalty_last_n: self.dry_penalty_last_n,
            sequence_breakers: if given.is_empty() { sequence_breakers } else { given.clone() },
        }
    }

    fn constraint(&self) -> Result<Option<ConstraintSpec>, Failure> {
        if let Some(regex) = &self.regex {
            return Ok(Some(ConstraintSpec::Regex(regex.clone())));
        }
        let Some(schema) = &self.json_schema else { return Ok(None) };
        // A file that is named like an object can be given as ./{...}.
        let is_json = schema.trim_start().starts_with('{');
        let schema = if is_json { schema.clone() } else { text::read(schema.into())? };
        Ok(Some(ConstraintSpec::JsonSchema(schema)))
    }
}

/// A token and what is added to its logit.
fn bias(text: &str) -> Result<(u32, f32), String> {
    let (id, bias) = text.split_once('=').ok_or("a token id, = and a number are needed")?;
    let id = id.parse().map_err(|_| format!("{id:?} is not a token id"))?;
    Ok((id, bias.parse().map_err(|_| format!("{bias:?} is not a number"))?))
}
