//! One sequence that has a session for itself.

use std::ops::Range;

use super::{Candidate, Choice, Cut, Limits, Page, Session, Traffic, Work};
use crate::{Error, Result};

/// A sequence of tokens with its KV cache.
#[derive(Debug)]
pub struct Sequence<S: Session + ?Sized = dyn Session> {
    limits: Limits,
    pages: Vec<Page>,
    len: usize,
    outputs: usize,
    session: Box<S>,
}

impl<S: Session + ?Sized> Sequence<S> {
    /// A sequence in `session`, which has room for `limits` and holds nothing.
    pub(crate) fn new(session: Box<S>, limits: Limits) -> Self {
        Self { limits, pages: (0..limits.pages as u32).map(Page).collect(), len: 0, outputs: 0, session }
    }

    /// Tokens the sequence holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was fed yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most tokens one call takes; longer inputs are fed in pieces.
    pub fn chunk(&self) -> usize {
        self.limits.tokens
    }

    /// Appends at most [`Self::chunk`] tokens. What follows the last `outputs` of them can be asked for afterwards; of
    /// the others, what only their logits need is not computed.
    ///
    /// Errors: [`Error::ContextLength`] beyond the capacity, [`Error::TokenOutOfRange`]; the sequence is then as before.
    pub fn feed(&mut self, ids: &[u32], outputs: usize) -> Result<()> {
        self.append(ids, outputs, |session, work| session.execute(&[work]))
    }

    /// [`Self::feed`] by way of `execute`.
    pub(crate) fn append(
        &mut self,
        ids: &[u32],
        outputs: usize,
        execute: impl FnOnce(&mut S, Work<'_>) -> Result<()>,
    ) -> Result<()> {
        let tokens = self.len + ids.len();
        if tokens > self.limits.positions {
            return Err(Error::ContextLength {
                prompt_tokens: tokens,
                context_length: self.limits.positions,
            });
        }
        execute(&mut self.session, Work { ids, position: self.len, pages: &self.pages, outputs })?;
        (self.len, self.outputs) = (tokens, outputs.min(ids.len()));
        Ok(())
    }

    /// Forgets all tokens but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Forgets the tokens at the positions `range`; those behind it move up to it. Outputs of the last call of
    /// [`Self::feed`] stay. See [`Session::forget`].
    ///
    /// Errors: [`Error::Unsupported`], and then the sequence is as before.
    pub fn forget(&mut self, range: Range<usize>) -> Result<()> {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} positions", self.len);
        self.session.forget(&self.pages, range.clone(), self.len)?;
        self.len -= range.len();
        Ok(())
    }

    /// What the last norm gives for the last `count` tokens of the last call of [`Self::feed`], `[count, hidden_size]`;
    /// `count` is at most the `outputs` of that call.
    ///
    /// Errors: [`Error::Unsupported`] where a backend gives logits alone.
    pub fn hidden(&mut self, count: usize) -> Result<&[f32]> {
        let outputs = self.last(count);
        self.session.hidden(outputs)
    }

    /// The logits of the last `count` tokens of the last call of [`Self::feed`], `[count, vocab_size]`; `count` is at
    /// most the `outputs` of that call.
    pub fn logits(&mut self, count: usize) -> Result<&[f32]> {
        let outputs = self.last(count);
        self.session.logits(outputs)
    }

    /// The tokens that may follow the last one: at least all that `cut` keeps, in the order of their ids, with the same
    /// logits that [`Self::logits`] gives.
    ///
    /// Errors: [`Error::NotFinite`] when the model gives no numbers.
    pub fn candidates(&mut self, cut: &Cut<'_>) -> Result<&[Candidate]> {
        let output = self.last(1).start;
        self.session.choose(&[Choice { output, cut: *cut }])?;
        self.session.candidates(0)
    }

    /// Finds what may follow some outputs of the last call of [`Self::feed`], all under one cut; [`Self::answer`] has the
    /// answers. The head is read once for all.
    pub(crate) fn choose(&mut self, outputs: Range<usize>, cut: &Cut<'_>) -> Result<()> {
        assert!(outputs.end <= self.outputs, "choices from tokens that were fed for it");
        let choices: Vec<Choice<'_>> = outputs.map(|output| Choice { output, cut: *cut }).collect();
        self.session.choose(&choices)
    }

    /// The answer to one of the last choices, as [`Self::candidates`] gives it.
    pub(crate) fn answer(&self, choice: usize) -> Result<&[Candidate]> {
        self.session.candidates(choice)
    }

    /// What was read from memory since the sequence started.
    pub fn traffic(&self) -> Traffic {
        self.session.traffic()
    }

    fn last(&self, count: usize) -> Range<usize> {
        assert!(count <= self.outputs, "logits of tokens that were fed for it");
        self.outputs - count..self.outputs
    }
}
