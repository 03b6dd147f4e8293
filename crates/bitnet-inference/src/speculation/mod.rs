//! Several tokens in one step: guesses are computed behind the last token, and count as far as they are what the sampler
//! chooses.
//!
//! Every token is chosen as without guesses, from the same logits and with the same random numbers, one after another; the
//! output behind a guess is looked at only when the guess was chosen. So a text is the same, token by token, whatever was
//! guessed, and the distribution of sampled texts is that of the model.
//! Source: Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding", 2023; here a guess is
//! one token rather than a distribution, so that it is accepted exactly where it is drawn.

mod attempt;
mod draft;
mod length;
mod lookup;
mod rate;
mod step_times;
#[cfg(test)]
mod tests;

use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

pub(crate) use self::attempt::Attempt;
use self::draft::Draft;
use self::length::Length;
use self::lookup::Lookup;
pub(crate) use self::step_times::StepTimes;
use crate::{Error, LoadedModel, Result};

/// Guesses of the next tokens. They make a text faster where they are right, and never another.
#[derive(Debug, Clone, PartialEq)]
pub struct Speculation {
    /// Where they come from.
    pub source: Source,
    /// How many a step has, as far as there are so many; `None` takes as many as are worth their time.
    pub guesses: Option<usize>,
}

/// Where guesses come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// From the prompt and the text so far: what came after its last tokens before. Good where a text repeats its prompt.
    Lookup,
    /// From a smaller model with the same tokens, which decodes greedily in front.
    Draft(Arc<LoadedModel>),
}

impl PartialEq for Source {
    /// A draft is the same model, not an equal one.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Lookup, Self::Lookup) => true,
            (Self::Draft(a), Self::Draft(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Speculation {
    /// As many guesses from `source` as are worth their time.
    pub fn new(source: Source) -> Self {
        Self { source, guesses: None }
    }

    /// Whether the source can guess for `model`, for a caller who wants to know before a text is asked for.
    ///
    /// Errors: [`Error::InvalidOption`] for a draft with other tokens; [`Error::Tokenizer`] where one has none.
    pub fn check_for(&self, model: &LoadedModel) -> Result<()> {
        let Source::Draft(draft) = &self.source else { return Ok(()) };
        if draft.tokenizer()?.has_tokens_of(model.tokenizer()?) {
            return Ok(());
        }
        let (expected, got) = ("a model with the same tokens", draft.summary().model.clone());
        Err(Error::InvalidOption { name: "draft", expected, got })
    }

    /// Errors: [`Error::InvalidOption`] for guesses that are none.
    pub(crate) fn check(&self) -> Result<()> {
        if self.guesses == Some(0) {
            let (expected, got) = ("at least 1", "0".to_owned());
            return Err(Error::InvalidOption { name: "guesses", expected, got });
        }
        Ok(())
    }
}

impl FromStr for Source {
    type Err = Error;

    /// `lookup`; a draft is a model, and has no name.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "lookup" => Ok(Self::Lookup),
            got => Err(Error::InvalidOption { name: "speculate", expected: "lookup", got: got.to_owned() }),
        }
    }
}

/// Guesses that were computed, and those that came true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Guesses {
    /// Computed.
    pub proposed: u64,
    /// Chosen.
    pub accepted: u64,
}

/// Guesses the next tokens of one text.
#[derive(Debug)]
pub(crate) struct Guesser {
    speculation: Speculation,
    kind: GuesserKind,
}

#[derive(Debug)]
enum GuesserKind {
    Lookup(Lookup),
    Draft(Box<Draft>),
}

/// The step that guesses are to share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Guesses that there is room for.
    pub(crate) most: usize,
    /// Tokens of other sequences in the step.
    pub(crate) beside: usize,
    /// How long steps take.
    pub(crate) times: &'a StepTimes,
}

impl Guesser {
    /// A guesser for a text of `model` behind `prompt`, of which the model reads at most `positions` tokens.
    ///
    /// Errors: those of [`Speculation::check_for`].
    pub(crate) fn new(
        speculation: &Speculation,
        model: &LoadedModel,
        prompt: &[u32],
        positions: usize,
    ) -> Result<Self> {
        speculation.check_for(model)?;
        let kind = match &speculation.source {
            Source::Lookup => GuesserKind::Lookup(Lookup::new(prompt)),
            Source::Draft(draft) => {
                GuesserKind::Draft(Box::new(Draft::new(draft, model.config().vocab_size, positions)))
            }
        };
        Ok(Self { speculation: speculation.clone(), kind })
    }

    /// Whether it guesses what is asked for.
    pub(crate) fn is_of(&self, speculation: &Speculation) -> bool {
        self.speculation == *speculation
    }

    /// Goes on to another text behind `prompt`, of as many positions. A draft does not read again what it has read of it.
    pub(crate) fn begin(&mut self, prompt: &[u32]) {
        match &mut self.kind {
            GuesserKind::Lookup(lookup) => *lookup = Lookup::new(prompt),
            GuesserKind::Draft(draft) => draft.begin(),
        }
    }

    /// Guesses what follows `tokens`. What became of the guesses before is seen from `tokens`.
    pub(crate) fn guess(&mut self, tokens: &[u32], place: Place<'_>) -> &[u32] {
        let length = Length { place, fixed: self.speculation.guesses };
        match &mut self.kind {
            GuesserKind::Lookup(lookup) => lookup.guess(tokens, length),
            GuesserKind::Draft(draft) => draft.guess(tokens, length),
        }
    }
}
