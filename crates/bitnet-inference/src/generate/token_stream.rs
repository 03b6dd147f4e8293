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
        let Self { sequence, continuation } = self;
        if let Some(reason) = continuation.finish() {
            return Ok(continuation.take_last().map_or(Step::Done(reason), Step::Chunk));
        }
        let pending = &continuation.tokens()[sequence.len()..];
        let ids = &pending[..pending.len().min(sequence.chunk())];
        let is_all = ids.len() == pending.len();
        sequence.feed(ids, usize::from(is_all))?;
        if !is_all {
            return Ok(Step::Prefill);
        }
        let candidates = sequence.candidates(&continuation.cut())?;
        match continuation.choose(candidates)? {
            Some(chunk) => Ok(Step::Chunk(chunk)),
            None => self.advance(),
        }
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
