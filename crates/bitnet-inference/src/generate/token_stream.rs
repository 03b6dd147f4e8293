//! A generation that its caller drives.

use std::sync::Arc;

use super::{Chunk, Continuation, FinishReason, GenerateOptions, Generation, Prompt, Step};
use crate::Result;
use crate::backend::Sequence;
use crate::loaded_model::LoadedModel;

/// A generation in progress. Each [`Self::advance`] does a bounded piece of work, so that a caller can stop between
/// any two.
#[derive(Debug)]
pub struct TokenStream {
    sequence: Sequence,
    continuation: Continuation,
}

impl TokenStream {
    pub(crate) fn new(
        model: &Arc<LoadedModel>,
        prompt: Prompt<'_>,
        options: &GenerateOptions,
    ) -> Result<Self> {
        let positions = model.config().context_length;
        let continuation = Continuation::new(Arc::clone(model), prompt, options, positions)?;
        Ok(Self { sequence: model.backend().start(continuation.most_positions())?, continuation })
    }

    /// Does the next piece of work: a chunk of the prompt, or one token.
    pub fn advance(&mut self) -> Result<Step> {
        self.continuation.advance(&mut self.sequence)
    }

    /// Ends the generation; what was held back is given out.
    pub fn cancel(&mut self) -> Result<()> {
        self.continuation.end(FinishReason::Cancelled)
    }

    /// Runs to the end.
    pub fn run(mut self) -> Result<Generation> {
        while !matches!(self.advance()?, Step::Done(_)) {}
        Ok(self.generation())
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.continuation.prompt_tokens()
    }

    /// What was generated so far.
    pub fn generation(&self) -> Generation {
        self.continuation.generation()
    }
}

impl Continuation {
    /// Does the next piece of work in `sequence`, which holds the beginning of its tokens.
    pub(crate) fn advance(&mut self, sequence: &mut Sequence) -> Result<Step> {
        if let Some(reason) = self.finish() {
            return Ok(self.take_last().map_or(Step::Done(reason), Step::Chunk));
        }
        let pending = &self.tokens()[sequence.len()..];
        let ids = &pending[..pending.len().min(sequence.chunk())];
        let is_all = ids.len() == pending.len();
        sequence.feed(ids, usize::from(is_all))?;
        if !is_all {
            return Ok(Step::Prefill);
        }
        let candidates = sequence.candidates(&self.cut())?;
        match self.choose(candidates)? {
            Some(chunk) => Ok(Step::Chunk(chunk)),
            None => self.advance(sequence),
        }
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
                    // Whatever failed, there is nothing more.
                    let _ = self.cancel();
                    return Some(Err(error));
                }
            }
        }
    }
}
