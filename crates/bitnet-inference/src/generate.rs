//! Generation: prefill, then one token after another, as text.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::backend::Sequence;
use crate::detokenize::Detokenizer;
use crate::loaded_model::LoadedModel;
use crate::sample::{Logprobs, Sampled, Sampler, SamplingOptions};
use crate::stop_strings::StopStrings;
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
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_tokens: 128, sampling: SamplingOptions::default(), stop: Vec::new() }
    }
}

impl GenerateOptions {
    /// What [`LoadedModel::stream`] checks first, for a caller who wants to know before a model is loaded.
    ///
    /// Errors: [`Error::InvalidOption`] for a value out of its range.
    pub fn check(&self) -> Result<()> {
        if self.max_tokens == 0 {
            let (expected, got) = ("at least 1", "0".to_owned());
            return Err(Error::InvalidOption { name: "max_tokens", expected, got });
        }
        if self.stop.iter().any(String::is_empty) {
            let (expected, got) = ("a text that is not empty", "\"\"".to_owned());
            return Err(Error::InvalidOption { name: "stop", expected, got });
        }
        self.sampling.check()
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
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
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
}

/// A generation in progress. Each [`Self::advance`] does a bounded piece of work, so that a caller can stop between
/// any two.
#[derive(Debug)]
pub struct TokenStream {
    model: Arc<LoadedModel>,
    sequence: Box<dyn Sequence>,
    sampler: Sampler,
    detokenizer: Detokenizer,
    stop: StopStrings,
    prompt: Vec<u32>,
    max_tokens: usize,
    token_ids: Vec<u32>,
    logprobs: Option<Vec<Logprobs>>,
    text: String,
    finish: Option<FinishReason>,
    /// Text to give out before the end.
    last_text: String,
    started: Instant,
    first_token: Option<Duration>,
    last_token: Duration,
}

impl TokenStream {
    pub(crate) fn new(
        model: Arc<LoadedModel>,
        prompt: Prompt<'_>,
        options: &GenerateOptions,
    ) -> Result<Self> {
        options.check()?;
        let config = model.config();
        let mut sampler = Sampler::new(&options.sampling, &model)?;
        let stop = StopStrings::new(&options.stop);
        let prompt = model.prompt_ids(prompt)?;
        if prompt.len() >= config.context_length {
            return Err(Error::ContextLength {
                prompt_tokens: prompt.len(),
                context_length: config.context_length,
            });
        }
        let max_tokens = options.max_tokens.min(config.context_length - prompt.len());
        sampler.observe_prompt(&prompt);
        // The last token is never fed back.
        let sequence = model.backend().start(prompt.len() + max_tokens - 1)?;
        let detokenizer = Detokenizer::after(model.tokenizer()?, &prompt)?;
        Ok(Self {
            model,
            sequence,
            sampler,
            detokenizer,
            stop,
            prompt,
            max_tokens,
            token_ids: Vec::new(),
            logprobs: options.sampling.logprobs.map(|_| Vec::new()),
            text: String::new(),
            finish: None,
            last_text: String::new(),
            started: Instant::now(),
            first_token: None,
            last_token: Duration::ZERO,
        })
    }

    /// Does the next piece of work: a chunk of the prompt, or one token.
    pub fn advance(&mut self) -> Result<Step> {
        if let Some(reason) = self.finish {
            let text = std::mem::take(&mut self.last_text);
            return Ok(if text.is_empty() {
                Step::Done(reason)
            } else {
                self.text.push_str(&text);
                Step::Chunk(Chunk { text, token_id: None, logprobs: None })
            });
        }
        let fed = self.sequence.len();
        let pending = self.prompt.get(fed..).filter(|rest| !rest.is_empty());
        let ids = match pending {
            Some(rest) => &rest[..rest.len().min(self.sequence.chunk())],
            None => self.token_ids.last_chunk::<1>().map_or(&[][..], |last| last),
        };
        let is_prompt_read = fed + ids.len() >= self.prompt.len();
        self.sequence.feed(ids, usize::from(is_prompt_read))?;
        if !is_prompt_read {
            return Ok(Step::Prefill);
        }
        let candidates = self.sequence.candidates(&self.sampler.cut())?;
        let next = self.sampler.sample(candidates)?;
        self.take(next)
    }

    /// Ends the generation; what was held back is given out.
    pub fn cancel(&mut self) -> Result<()> {
        if self.finish.is_none() {
            self.end(FinishReason::Cancelled)?;
        }
        Ok(())
    }

    /// Runs to the end.
    pub fn run(mut self) -> Result<Generation> {
        while !matches!(self.advance()?, Step::Done(_)) {}
        Ok(self.generation())
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt.len()
    }

    /// What was generated so far.
    pub fn generation(&self) -> Generation {
        Generation {
            timings: self.timings(),
            seed: self.sampler.seed(),
            text: self.text.clone(),
            token_ids: self.token_ids.clone(),
            logprobs: self.logprobs.clone(),
            prompt_tokens: self.prompt.len(),
            finish_reason: self.finish.unwrap_or(FinishReason::Cancelled),
        }
    }

    fn timings(&self) -> Timings {
        let Some(first) = self.first_token else { return Timings::default() };
        let decode_s = self.last_token.saturating_sub(first).as_secs_f64();
        let per_second =
            |tokens: usize, seconds: f64| if tokens == 0 { 0.0 } else { tokens as f64 / seconds };
        Timings {
            prefill_s: first.as_secs_f64(),
            decode_s,
            prefill_tokens_per_s: per_second(self.prompt.len(), first.as_secs_f64()),
            decode_tokens_per_s: per_second(self.token_ids.len().saturating_sub(1), decode_s),
        }
    }

    /// Takes a sampled token in.
    fn take(&mut self, Sampled { id, logprobs }: Sampled) -> Result<Step> {
        self.last_token = self.started.elapsed();
        self.first_token.get_or_insert(self.last_token);
        if self.model.config().eos.contains(&id) {
            self.end(FinishReason::Stop)?;
            return self.advance();
        }
        self.sampler.observe(id)?;
        self.token_ids.push(id);
        if let Some(all) = &mut self.logprobs {
            all.extend(logprobs.clone());
        }
        let text = self.detokenizer.push(self.model.tokenizer()?, id)?;
        let (mut text, is_stopped) = self.stop.push(&text);
        if is_stopped {
            self.finish = Some(FinishReason::Stop);
        } else if self.token_ids.len() == self.max_tokens {
            self.end(FinishReason::Length)?;
            text.push_str(&std::mem::take(&mut self.last_text));
        }
        self.text.push_str(&text);
        Ok(Step::Chunk(Chunk { text, token_id: Some(id), logprobs }))
    }

    fn end(&mut self, reason: FinishReason) -> Result<()> {
        let held = self.detokenizer.finish(self.model.tokenizer()?)?;
        let (mut text, is_stopped) = self.stop.push(&held);
        if !is_stopped {
            text.push_str(&self.stop.finish());
        }
        self.last_text = text;
        self.finish = Some(if is_stopped { FinishReason::Stop } else { reason });
        Ok(())
    }
}

impl Iterator for TokenStream {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.advance() {
                Ok(Step::Prefill) => {}
                Ok(Step::Chunk(chunk)) => return Some(Ok(chunk)),
                Ok(Step::Done(_)) => return None,
                Err(error) => {
                    self.finish = Some(FinishReason::Cancelled);
                    return Some(Err(error));
                }
            }
        }
    }
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
