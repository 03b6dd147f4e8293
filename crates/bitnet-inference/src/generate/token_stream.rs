//! A generation that its caller drives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Chunk, Continuation, FinishReason, GenerateOptions, Generation, Prompt, Step};
use crate::Result;
use crate::backend::Sequence;
use crate::loaded_model::LoadedModel;
use crate::speculation::{Attempt, Guesser, Place};

/// A generation in progress. Each [`Self::advance`] does a bounded piece of work, so that a caller can stop between
/// any two.
#[derive(Debug)]
pub struct TokenStream {
    model: Arc<LoadedModel>,
    sequence: Sequence,
    continuation: Continuation,
    guesser: Option<Guesser>,
    attempt: Attempt,
    /// Where the outputs begin that the sequence was last asked for.
    asked: usize,
    /// Of the attempt so far.
    time: Duration,
}

impl TokenStream {
    pub(crate) fn new(
        model: &Arc<LoadedModel>,
        prompt: Prompt<'_>,
        options: &GenerateOptions,
    ) -> Result<Self> {
        let positions = model.config().context_length;
        let continuation = Continuation::new(Arc::clone(model), prompt, options, positions)?;
        Ok(Self {
            model: Arc::clone(model),
            sequence: model.backend().start(continuation.most_positions())?,
            guesser: continuation.guesser(options)?,
            continuation,
            attempt: Attempt::default(),
            asked: 0,
            time: Duration::ZERO,
        })
    }

    /// Does the next piece of work: a chunk of the prompt, or one token.
    pub fn advance(&mut self) -> Result<Step> {
        if let Some(reason) = self.continuation.finish() {
            return Ok(self.continuation.take_last().map_or(Step::Done(reason), Step::Chunk));
        }
        if !self.attempt.is_open() && !self.compute()? {
            return Ok(Step::Prefill);
        }
        match self.choose()? {
            Some(chunk) => Ok(Step::Chunk(chunk)),
            None => self.advance(),
        }
    }

    /// Computes the next tokens, and guesses behind them; false when there is more of the prompt to come.
    fn compute(&mut self) -> Result<bool> {
        let Self { model, sequence, continuation, guesser, attempt, .. } = self;
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
            self.ask()?;
        }
        self.time = started.elapsed();
        self.note_time();
        Ok(is_all)
    }

    /// Asks for the outputs that the next choices need.
    fn ask(&mut self) -> Result<()> {
        let outputs = self.attempt.next(self.continuation.has_fixed_cut());
        self.asked = outputs.start;
        self.sequence.choose(outputs, &self.continuation.cut()).inspect_err(|_| self.attempt.close())
    }

    /// Chooses a token from the next output; `None` when it ends the text.
    fn choose(&mut self) -> Result<Option<Chunk>> {
        let output = self.attempt.next(false).start;
        let chunk = self.continuation.choose(self.sequence.answer(output - self.asked)?)?;
        let is_right = self.attempt.settle(chunk.as_ref().and_then(|chunk| chunk.token_id));
        if is_right && self.continuation.finish().is_none() && !self.continuation.has_fixed_cut() {
            let started = Instant::now();
            self.ask()?;
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
        self.continuation.generation(self.attempt.counts())
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
