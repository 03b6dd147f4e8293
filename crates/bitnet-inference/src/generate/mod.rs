//! Generation: prefill, then one token after another, as text.

mod continuation;
mod decoding;
mod token_stream;

use std::fmt;

use serde::Serialize;

pub(crate) use self::continuation::Continuation;
pub(crate) use self::decoding::Decoding;
pub use self::token_stream::TokenStream;
use crate::sample::{Logprobs, SamplingOptions};
use crate::speculation::{Guesses, Speculation};
use crate::{Error, Result};

/// What to continue: text, or ids that are used as they are.
#[derive(Debug, Clone, Copy)]
pub enum Prompt<'a> {
    /// Text, encoded with the special tokens of the tokenizer. A text that begins with the BOS token already, such
    /// as a rendered chat, does not get a second one.
    Text(&'a str),
    /// Token ids.
    Ids(&'a [u32]),
}

impl<'a> From<&'a str> for Prompt<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

/// How to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// The most tokens to generate; the context may end a text earlier.
    pub max_tokens: usize,
    /// How each token is chosen.
    pub sampling: SamplingOptions,
    /// Texts that end the generation; they are not part of it.
    pub stop: Vec<String>,
    /// Where guesses of the next tokens come from: the text is the same with and without.
    pub speculation: Option<Speculation>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_tokens: 128, sampling: SamplingOptions::default(), stop: Vec::new(), speculation: None }
    }
}

impl GenerateOptions {
    /// What [`crate::LoadedModel::stream`] checks first, for a caller who wants to know before a model is loaded.
    ///
    /// Errors: [`Error::InvalidOption`] for a value out of its range.
    pub fn check(&self) -> Result<()> {
        self.check_own()?;
        self.sampling.check()
    }

    /// [`Self::check`] without the sampling, which a sampler checks when it is made.
    pub(crate) fn check_own(&self) -> Result<()> {
        if self.max_tokens == 0 {
            let (expected, got) = ("at least 1", "0".to_owned());
            return Err(Error::InvalidOption { name: "max_tokens", expected, got });
        }
        if self.stop.iter().any(String::is_empty) {
            let (expected, got) = ("a text that is not empty", "\"\"".to_owned());
            return Err(Error::InvalidOption { name: "stop", expected, got });
        }
        self.speculation.as_ref().map_or(Ok(()), Speculation::check)
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended the text, which a constraint lets it do where the text is complete; or a stop string came up.
    Stop,
    /// `max_tokens`, or the end of the context; a constrained text is then incomplete.
    Length,
    /// The caller stopped it.
    Cancelled,
    /// Its time was over.
    Deadline,
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
        })
    }
}

/// How long a generation took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Timings {
    /// Seconds from the start to the first token.
    pub prefill_s: f64,
    /// Seconds from the first token to the last.
    pub decode_s: f64,
    /// Prompt tokens per second of prefill.
    pub prefill_tokens_per_s: f64,
    /// Tokens per second after the first; 0 when there is only one.
    pub decode_tokens_per_s: f64,
}

/// A piece of a text as it is generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Whole characters; may be empty while a character or a possible stop string is incomplete.
    pub text: String,
    /// The token that was added; `None` for text that was held back until the end.
    pub token_id: Option<u32>,
    /// What the model says of the token, where that was asked for.
    pub logprobs: Option<Logprobs>,
}

/// One step of a [`TokenStream`].
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A part of the prompt was read.
    Prefill,
    /// A token was generated.
    Chunk(Chunk),
    /// There is nothing more.
    Done(FinishReason),
}

/// A finished generation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generation {
    /// The text, without prompt and stop string.
    pub text: String,
    /// The generated tokens, without the one that ended the text.
    pub token_ids: Vec<u32>,
    /// What the model says of each of them; `None` unless that was asked for.
    pub logprobs: Option<Vec<Logprobs>>,
    /// Length of the prompt.
    pub prompt_tokens: usize,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The seed that reproduces it.
    pub seed: u64,
    /// How long it took.
    pub timings: Timings,
    /// Tokens that were guessed.
    pub guesses: Guesses,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_stop_string_is_an_error() {
        let options = GenerateOptions { stop: vec![String::new()], ..GenerateOptions::default() };
        assert!(matches!(options.check(), Err(Error::InvalidOption { name: "stop", .. })));
    }
}
