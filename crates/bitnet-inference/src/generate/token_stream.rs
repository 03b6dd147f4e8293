//! A generation that its caller drives.

use std::sync::Arc;

use super::{Chunk, Continuation, Decoding, GenerateOptions, Generation, Prompt, Step};
use crate::Result;
use crate::backend::Sequence;
use crate::loaded_model::LoadedModel;

/// A generation in progress. Each [`Self::advance`] does a bounded piece of work, so that a caller can stop between
/// any two.
#[derive(Debug)]
pub struct TokenStream {
    sequence: Sequence,
    decoding: Decoding,
}

impl TokenStream {
    pub(crate) fn new(
        model: &Arc<LoadedModel>,
        prompt: Prompt<'_>,
        options: &GenerateOptions,
    ) -> Result<Self> {
        let positions = model.config().context_length;
        let continuation = Continuation::new(Arc::clone(model), prompt, options, positions)?;
        let sequence = model.backend().start(continuation.most_positions())?;
        let guesser = continuation.guesser(options)?;
        Ok(Self { sequence, decoding: Decoding::new(model, continuation, guesser) })
    }

    /// Does the next piece of work: a chunk of the prompt, or one token.
    pub fn advance(&mut self) -> Result<Step> {
        self.decoding.advance(&mut self.sequence)
    }

    /// Ends the generation; what was held back is given out.
    pub fn cancel(&mut self) -> Result<()> {
        self.decoding.cancel()
    }

    /// Runs to the end.
    pub fn run(mut self) -> Result<Generation> {
        while !matches!(self.advance()?, Step::Done(_)) {}
        Ok(self.generation())
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.decoding.prompt_tokens()
    }

    /// What was generated so far.
    pub fn generation(&self) -> Generation {
        self.decoding.generation()
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
