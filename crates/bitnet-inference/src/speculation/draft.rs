//! Guesses of a smaller model.

use std::time::Instant;

use super::length::Length;
use super::rate::Rate;
use crate::backend::{Candidate, Cut, Sequence};
use crate::{Error, LoadedModel, Result};

/// Weight of the latest time of a guess.
const WEIGHT: f64 = 0.25;

/// A model that decodes greedily in front of another.
#[derive(Debug)]
pub(crate) struct Draft {
    sequence: Sequence,
    positions: usize,
    /// Tokens of the model it guesses for.
    vocab_size: u32,
    /// What its sequence holds.
    fed: Vec<u32>,
    /// The last guesses, and how many tokens were in front of them.
    guesses: Vec<u32>,
    guessed_at: usize,
    rate: Rate,
    /// Seconds of a guess, once there was one.
    seconds: Option<f64>,
    has_failed: bool,
}

impl Draft {
    /// A sequence of `draft` for a text of `model` that is at most `positions` tokens.
    ///
    /// Errors: [`Error::InvalidOption`] when the models have different tokens; those of starting a sequence.
    pub(super) fn new(draft: &LoadedModel, model: &LoadedModel, positions: usize) -> Result<Self> {
        if !draft.tokenizer()?.has_tokens_of(model.tokenizer()?) {
            let (expected, got) = ("a model with the same tokens", draft.summary().model.clone());
            return Err(Error::InvalidOption { name: "draft", expected, got });
        }
        let positions = positions.min(draft.config().context_length);
        Ok(Self {
            sequence: draft.backend().start(positions)?,
            positions,
            vocab_size: model.config().vocab_size as u32,
            fed: Vec::with_capacity(positions),
            guesses: Vec::new(),
            guessed_at: 0,
            rate: Rate::default(),
            seconds: None,
            has_failed: false,
        })
    }

    /// Guesses what follows `tokens`. A draft that fails guesses no more: the text does without.
    pub(super) fn guess(&mut self, tokens: &[u32], length: Length<'_>) -> &[u32] {
        self.learn(tokens);
        self.guesses.clear();
        self.guessed_at = tokens.len();
        let room = (self.positions + 1).saturating_sub(tokens.len());
        let rate = self.rate.share(0.5);
        let count = length.at_most(room).best(|_| rate, self.seconds.unwrap_or(0.0));
        if count == 0 || self.has_failed {
            self.rate.forget();
        } else if let Err(error) = self.decode(tokens, count) {
            tracing::warn!(%error, "the draft model fails, and is asked no more");
            self.has_failed = true;
            self.guesses.clear();
        }
        &self.guesses
    }

    /// Sees what became of the last guesses.
    fn learn(&mut self, tokens: &[u32]) {
        for (guess, token) in self.guesses.iter().zip(&tokens[self.guessed_at..]) {
            self.rate.record(guess == token);
            if guess != token {
                break;
            }
        }
    }

    /// Decodes `count` tokens behind `tokens`; none while a long prompt is being read.
    fn decode(&mut self, tokens: &[u32], count: usize) -> Result<()> {
        let common = self.fed.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        // The last token is fed in any case, for its output.
        self.truncate(common.min(tokens.len() - 1));
        let pending = &tokens[self.fed.len()..];
        let chunk = pending.len().min(self.sequence.chunk());
        let is_all = chunk == pending.len();
        self.feed(&pending[..chunk], is_all)?;
        if !is_all {
            return Ok(());
        }
        let started = Instant::now();
        loop {
            let id = most_probable(self.sequence.candidates(&Cut::GREEDY)?);
            if id >= self.vocab_size {
                break;
            }
            self.guesses.push(id);
            if self.guesses.len() == count {
                break;
            }
            self.feed(&[id], true)?;
        }
        let seconds = started.elapsed().as_secs_f64() / self.guesses.len().max(1) as f64;
        let mean = self.seconds.get_or_insert(seconds);
        *mean += WEIGHT * (seconds - *mean);
        Ok(())
    }

    fn feed(&mut self, ids: &[u32], is_asked: bool) -> Result<()> {
        self.sequence.feed(ids, usize::from(is_asked))?;
        self.fed.extend_from_slice(ids);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.sequence.truncate(len);
        self.fed.truncate(len);
    }
}

/// The first of the largest.
fn most_probable(candidates: &[Candidate]) -> u32 {
    let best = candidates.iter().reduce(|best, next| if next.logit > best.logit { next } else { best });
    best.map_or(0, |best| best.id)
}
