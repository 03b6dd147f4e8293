//! A text that is generated on a sequence, with guesses where that is asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Chunk, Continuation, FinishReason, Generation, Step};
use crate::Result;
use crate::backend::Sequence;
use crate::loaded_model::LoadedModel;
use crate::speculation::{Attempt, Guesser, Place};

/// A text and how far its current step has come. The sequence is the caller's, and the same in every call: at first it
/// holds some of the beginning of the prompt, not all of it.
#[derive(Debug)]
pub(crate) struct Decoding {
    model: Arc<LoadedModel>,
    continuation: Continuation,
    guesser: Option<Guesser>,
    attempt: Attempt,
    /// Where the outputs begin that the sequence was last asked for.
    asked: usize,
    /// Of the attempt so far.
    time: Duration,
}

impl Decoding {
    /// A text with the guesses of `guesser`, if there are to be some.
    pub(crate) fn new(
        model: &Arc<LoadedModel>,
        continuation: Continuation,
        guesser: Option<Guesser>,
    ) -> Self {
        Self {
            model: Arc::clone(model),
            guesser,
            continuation,
            attempt: Attempt::default(),
            asked: 0,
            time: Duration::ZERO,
        }
    }

    /// Its guesser, for the next text; this one goes on without.
    pub(crate) fn take_guesser(&mut self) -> Option<Guesser> {
        self.guesser.take()
    }

    /// Does the next piece of work: a chunk of the prompt, or one token.
    pub(crate) fn advance(&mut self, sequence: &mut Sequence) -> Result<Step> {
        if let Some(reason) = self.continuation.finish() {
            return Ok(self.continuation.take_last().map_or(Step::Done(reason), Step::Chunk));
        }
        if !self.attempt.is_open() && !self.compute(sequence)? {
            return Ok(Step::Prefill);
        }
        match self.choose(sequence)? {
            Some(chunk) => Ok(Step::Chunk(chunk)),
            None => self.advance(sequence),
        }
    }

    /// Ends the text; what was held back is given out.
    pub(crate) fn cancel(&mut self) -> Result<()> {
        self.continuation.end(FinishReason::Cancelled)
    }

    /// Tokens of the prompt.
    pub(crate) fn prompt_tokens(&self) -> usize {
        self.continuation.prompt_tokens()
    }

    /// What was generated so far.
    pub(crate) fn generation(&self) -> Generation {
        self.continuation.generation(self.attempt.counts())
    }

    /// The tokens of the text that `sequence` holds; it may hold wrong guesses behind them.
    pub(crate) fn held(&self, sequence: &Sequence) -> &[u32] {
        let tokens = self.continuation.tokens();
        let right = if self.attempt.guesses() == 0 { tokens.len() } else { tokens.len() - 1 };
        &tokens[..sequence.len().min(right)]
    }

    /// Computes the next tokens, and guesses behind them; false when there is more of the prompt to come.
    fn compute(&mut self, sequence: &mut Sequence) -> Result<bool> {
        let Self { model, continuation, guesser, attempt, .. } = self;
        let tokens = continuation.tokens();
        // What was guessed wrong is behind the last token but one.
        sequence.truncate(tokens.len() - 1);
        let pending = &tokens[sequence.len()..];
        let ids = &pending[..pending.len().min(sequence.chunk())];
        let is_all = ids.len() == pending.len();
        attempt.begin(ids);
        if let (Some(guesser), 1) = (guesser, pending.len()) {
            let most = continuation.room().min(sequence.chunk() - 1);
            attempt.guess(guesser.guess(tokens, Place { most, beside: 0, times: model.step_times() }));
        }
        let started = Instant::now();
        sequence.feed(attempt.ids(), if is_all { attempt.guesses() + 1 } else { 0 })?;
        if is_all {
            attempt.open(0);
            self.ask(sequence)?;
        }
        self.time = started.elapsed();
        self.note_time();
        Ok(is_all)
    }

    /// Asks for the outputs that the next choices need.
    fn ask(&mut self, sequence: &mut Sequence) -> Result<()> {
        let outputs = self.attempt.next(self.continuation.has_fixed_cut());
        self.asked = outputs.start;
        sequence.choose(outputs, &self.continuation.cut()).inspect_err(|_| self.attempt.close())
    }

    /// Chooses a token from the next output; `None` when it ends the text.
    fn choose(&mut self, sequence: &mut Sequence) -> Result<Option<Chunk>> {
        let output = self.attempt.next(false).start;
        let chunk = self.continuation.choose(sequence.answer(output - self.asked)?)?;
        let is_right = self.attempt.settle(chunk.as_ref().and_then(|chunk| chunk.token_id));
        if is_right && self.continuation.finish().is_none() && !self.continuation.has_fixed_cut() {
            let started = Instant::now();
            self.ask(sequence)?;
            self.time += started.elapsed();
        }
        self.note_time();
        Ok(chunk)
    }

    /// Remembers what the attempt took, once it is over.
    fn note_time(&mut self) {
        if !self.attempt.is_open() {
            self.model.step_times().record(self.attempt.ids().len(), self.time.as_secs_f64());
        }
    }
}
