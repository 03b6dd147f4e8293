//! A text as it is generated, whatever runs the model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Chunk, FinishReason, GenerateOptions, Generation, Prompt, Timings};
use crate::backend::{Candidate, Cut};
use crate::detokenize::Detokenizer;
use crate::loaded_model::LoadedModel;
use crate::sample::{Logprobs, Sampled, Sampler};
use crate::speculation::{Guesser, Guesses};
use crate::stop_strings::StopStrings;
use crate::{Error, Result};

/// The tokens of a text, how the next one is chosen, and what becomes of it.
#[derive(Debug)]
pub(crate) struct Continuation {
    model: Arc<LoadedModel>,
    sampler: Sampler,
    detokenizer: Detokenizer,
    stop: StopStrings,
    /// Prompt, and what was generated behind it.
    tokens: Vec<u32>,
    prompt_tokens: usize,
    max_tokens: usize,
    logprobs: Option<Vec<Logprobs>>,
    text: String,
    finish: Option<FinishReason>,
    /// Text to give out before the end.
    last_text: String,
    started: Instant,
    first_token: Option<Duration>,
    last_token: Duration,
}

impl Continuation {
    /// A text behind `prompt`, both together of at most `positions` tokens.
    ///
    /// Errors: [`Error::EmptyPrompt`], [`Error::ContextLength`], [`Error::InvalidOption`], [`Error::TokenOutOfRange`].
    pub(crate) fn new(
        model: Arc<LoadedModel>,
        prompt: Prompt<'_>,
        options: &GenerateOptions,
        positions: usize,
    ) -> Result<Self> {
        let started = Instant::now();
        options.check_own()?;
        let mut sampler = Sampler::new(&options.sampling, &model)?;
        let tokens = model.prompt_ids(prompt)?;
        let prompt_tokens = tokens.len();
        if prompt_tokens >= positions {
            return Err(Error::ContextLength { prompt_tokens, context_length: positions });
        }
        sampler.observe_prompt(&tokens);
        Ok(Self {
            detokenizer: Detokenizer::after(model.tokenizer()?, &tokens)?,
            model,
            sampler,
            stop: StopStrings::new(&options.stop),
            tokens,
            prompt_tokens,
            max_tokens: options.max_tokens.min(positions - prompt_tokens),
            logprobs: options.sampling.logprobs.map(|_| Vec::new()),
            text: String::new(),
            finish: None,
            last_text: String::new(),
            started,
            first_token: None,
            last_token: Duration::ZERO,
        })
    }

    /// Prompt, and what was generated behind it.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens of the prompt.
    pub(crate) fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// The most tokens that the model reads: the last one is never fed back.
    pub(crate) fn most_positions(&self) -> usize {
        self.prompt_tokens + self.max_tokens - 1
    }

    /// Guesses of the next tokens that can count: the last token of a text is never one.
    pub(crate) fn room(&self) -> usize {
        (self.prompt_tokens + self.max_tokens).saturating_sub(self.tokens.len() + 1)
    }

    /// A guesser for it, where `options` ask for guesses.
    ///
    /// Errors: those of [`Guesser::new`].
    pub(crate) fn guesser(&self, options: &GenerateOptions) -> Result<Option<Guesser>> {
        let guesser =
            |speculation| Guesser::new(speculation, &self.model, &self.tokens, self.most_positions());
        options.speculation.as_ref().map(guesser).transpose()
    }

    /// Why there is nothing more to generate, once that is so.
    pub(crate) fn finish(&self) -> Option<FinishReason> {
        self.finish
    }

    /// From the start to the first token, and to the last so far.
    pub(crate) fn token_times(&self) -> (Option<Duration>, Duration) {
        (self.first_token, self.last_token)
    }

    /// When it was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// What of the vocabulary [`Self::choose`] needs to see.
    pub(crate) fn cut(&self) -> Cut<'_> {
        self.sampler.cut()
    }

    /// Whether [`Self::cut`] is the same for every token.
    pub(crate) fn has_fixed_cut(&self) -> bool {
        self.sampler.has_fixed_cut()
    }

    /// Chooses the next token among candidates that hold all that [`Self::cut`] keeps. `None` when it ends the text
    /// and is no part of it.
    pub(crate) fn choose(&mut self, candidates: &[Candidate]) -> Result<Option<Chunk>> {
        let Sampled { id, logprobs } = self.sampler.sample(candidates)?;
        self.last_token = self.started.elapsed();
        self.first_token.get_or_insert(self.last_token);
        if self.model.config().eos.contains(&id) {
            self.end(FinishReason::Stop)?;
            return Ok(None);
        }
        self.sampler.observe(id)?;
        self.tokens.push(id);
        if let Some(all) = &mut self.logprobs {
            all.extend(logprobs.clone());
        }
        let text = self.detokenizer.push(self.model.tokenizer()?, id)?;
        let (mut text, is_stopped) = self.stop.push(&text);
        if is_stopped {
            self.finish = Some(FinishReason::Stop);
        } else if self.tokens.len() == self.prompt_tokens + self.max_tokens {
            self.end(FinishReason::Length)?;
            text.push_str(&std::mem::take(&mut self.last_text));
        }
        self.text.push_str(&text);
        Ok(Some(Chunk { text, token_id: Some(id), logprobs }))
    }

    /// Text that was held back until the end, once.
    pub(crate) fn take_last(&mut self) -> Option<Chunk> {
        let text = std::mem::take(&mut self.last_text);
        self.text.push_str(&text);
        (!text.is_empty()).then_some(Chunk { text, token_id: None, logprobs: None })
    }

    /// Ends the text, if it has not ended; what was held back is there to be taken.
    pub(crate) fn end(&mut self, reason: FinishReason) -> Result<()> {
        if self.finish.is_some() {
            return Ok(());
        }
        let held = self.detokenizer.finish(self.model.tokenizer()?)?;
        let (mut text, is_stopped) = self.stop.push(&held);
        if !is_stopped {
            text.push_str(&self.stop.finish());
        }
        self.last_text = text;
        self.finish = Some(if is_stopped { FinishReason::Stop } else { reason });
        Ok(())
    }

    /// What was generated so far, with the help of `guesses`.
    pub(crate) fn generation(&self, guesses: Guesses) -> Generation {
        Generation {
            guesses,
            timings: self.timings(),
            seed: self.sampler.seed(),
            text: self.text.clone(),
            token_ids: self.tokens[self.prompt_tokens..].to_vec(),
            logprobs: self.logprobs.clone(),
            prompt_tokens: self.prompt_tokens,
            finish_reason: self.finish.unwrap_or(FinishReason::Cancelled),
        }
    }

    fn timings(&self) -> Timings {
        let Some(first) = self.first_token else { return Timings::default() };
        let decode_s = self.last_token.saturating_sub(first).as_secs_f64();
        let per_second =
            |tokens: usize, seconds: f64| if tokens == 0 { 0.0 } else { tokens as f64 / seconds };
        let generated = self.tokens.len() - self.prompt_tokens;
        Timings {
            prefill_s: first.as_secs_f64(),
            decode_s,
            prefill_tokens_per_s: per_second(self.prompt_tokens, first.as_secs_f64()),
            decode_tokens_per_s: per_second(generated.saturating_sub(1), decode_s),
        }
    }
}
