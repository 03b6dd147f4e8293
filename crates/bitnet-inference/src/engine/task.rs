//! A request on its way through the engine.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::page_pool::Pages;
use super::request::{Event, Request};
use crate::backend::{Candidate, Work};
use crate::generate::{Continuation, Prompt};
use crate::loaded_model::LoadedModel;
use crate::monitor::PerformanceMonitor;
use crate::speculation::{Attempt, Guesser, Place};
use crate::{Error, FinishReason, Result};

/// Waiting that counts as much as one more of priority.
pub const AGING: Duration = Duration::from_secs(5);

/// Takes what the engine says of a request. It is called by the engine's thread, which it holds up.
pub type Sink = Box<dyn FnMut(Event) + Send>;

/// A request, waiting or running.
pub(super) struct Task {
    pub(super) continuation: Continuation,
    pub(super) pages: Pages,
    /// Tokens whose keys and values are in the pages.
    pub(super) computed: usize,
    /// The next step.
    pub(super) attempt: Attempt,
    guesser: Option<Guesser>,
    failure: Option<Error>,
    /// Requests so far, this one among them.
    pub(super) number: u64,
    priority: i32,
    deadline: Option<Instant>,
    is_cancelled: Arc<AtomicBool>,
    sink: Sink,
}

impl Task {
    /// A request for the model, of at most `positions` tokens with its prompt.
    ///
    /// Errors: those of [`Continuation::new`] and [`Continuation::guesser`].
    pub(super) fn new(
        model: Arc<LoadedModel>,
        prompt: Prompt<'_>,
        request: &Request,
        positions: usize,
        sink: Sink,
    ) -> Result<Self> {
        let continuation = Continuation::new(model, prompt, &request.options, positions)?;
        Ok(Self {
            deadline: request.deadline.and_then(|deadline| continuation.started().checked_add(deadline)),
            guesser: continuation.guesser(&request.options)?,
            continuation,
            pages: Pages::default(),
            computed: 0,
            attempt: Attempt::default(),
            failure: None,
            number: 0,
            priority: request.priority,
            is_cancelled: Arc::default(),
            sink,
        })
    }

    /// Set it to end the task at the next step.
    pub(super) fn cancellation(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_cancelled)
    }

    /// Tokens that are not computed yet.
    pub(super) fn pending(&self) -> usize {
        self.continuation.tokens().len() - self.computed
    }

    /// Whether the prompt, or what was lost of the text, is read no further than to its last token.
    pub(super) fn is_prefilling(&self) -> bool {
        self.pending() > 1
    }

    /// Why it has to end, if it has to.
    pub(super) fn stopped(&self, now: Instant) -> Option<FinishReason> {
        if self.is_cancelled.load(Ordering::Relaxed) {
            return Some(FinishReason::Cancelled);
        }
        self.deadline.is_some_and(|deadline| deadline <= now).then_some(FinishReason::Deadline)
    }

    /// Tasks with a smaller one go first: by priority and waiting time, then in the order of the requests.
    pub(super) fn rank(&self, now: Instant) -> (Reverse<i64>, u64) {
        let waited = now.saturating_duration_since(self.continuation.started());
        let aged = i64::from(self.priority) + (waited.as_secs_f64() / AGING.as_secs_f64()) as i64;
        (Reverse(aged), self.number)
    }

    /// Tells who asked.
    fn tell(&mut self, event: Event) {
        (self.sink)(event);
    }

    /// Sets the input of the next step: pending tokens, at most `most`. Returns their number.
    pub(super) fn plan(&mut self, most: usize) -> usize {
        let pending = &self.continuation.tokens()[self.computed..];
        self.attempt.begin(&pending[..most.min(pending.len())]);
        self.attempt.ids().len()
    }

    /// Adds guesses to the input of a task that decodes. Returns their number.
    pub(super) fn guess(&mut self, place: Place<'_>) -> usize {
        let Some(guesser) = &mut self.guesser else { return 0 };
        let most = place.most.min(self.continuation.room());
        self.attempt.guess(guesser.guess(self.continuation.tokens(), Place { most, ..place }));
        self.attempt.guesses()
    }

    /// What the device is to compute, if there is anything.
    pub(super) fn work(&self) -> Option<Work<'_>> {
        let (ids, pages) = (self.attempt.ids(), self.pages.as_slice());
        let outputs = if self.has_outputs() { self.attempt.guesses() + 1 } else { 0 };
        (!ids.is_empty()).then_some(Work { ids, position: self.computed, pages, outputs })
    }

    /// Whether outputs are asked for: not while a part of the prompt is still to come.
    fn has_outputs(&self) -> bool {
        self.attempt.pending() > 0 && self.attempt.pending() == self.pending()
    }

    /// Its outputs begin at `first`; returns where those of the next task do.
    pub(super) fn expect_outputs(&mut self, first: usize) -> usize {
        if self.has_outputs() { self.attempt.open(first) } else { first }
    }

    /// Outputs to choose from now.
    pub(super) fn next_outputs(&self) -> Range<usize> {
        self.attempt.next(self.continuation.has_fixed_cut())
    }

    /// Keys and values of the input, without its guesses, are there.
    pub(super) fn take_computed(&mut self, monitor: &PerformanceMonitor) {
        self.computed += self.attempt.pending();
        monitor.guessed(self.attempt.guesses());
    }

    /// Chooses a token from an output, if it still counts.
    pub(super) fn take(&mut self, output: usize, answer: Result<&[Candidate]>, monitor: &PerformanceMonitor) {
        if self.attempt.next(false) != (output..output + 1) {
            return;
        }
        let (first, last) = self.continuation.token_times();
        let chosen = answer.and_then(|candidates| self.continuation.choose(candidates));
        let id = match chosen {
            Ok(Some(chunk)) => {
                let now = self.continuation.token_times().1;
                match first {
                    None => monitor.first_token(now),
                    Some(_) => monitor.next_token(now.saturating_sub(last)),
                }
                let id = chunk.token_id;
                self.tell(Event::Chunk(chunk));
                id
            }
            Ok(None) => None,
            Err(error) => {
                self.failure = Some(error);
                None
            }
        };
        if self.attempt.settle(id) {
            monitor.guessed_right();
            self.computed += 1;
        }
        if self.is_over() {
            self.attempt.close();
        }
    }

    /// The step is over. The last token is computed again where its output was not looked at.
    pub(super) fn finish_step(&mut self) {
        self.computed = self.computed.min(self.continuation.tokens().len() - 1);
        self.attempt.clear();
    }

    /// Whether it has ended, or failed.
    pub(super) fn is_over(&self) -> bool {
        self.failure.is_some() || self.continuation.finish().is_some()
    }

    /// Why it failed.
    pub(super) fn take_error(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Ends it, with what it has.
    pub(super) fn end(mut self, reason: FinishReason, monitor: &PerformanceMonitor) {
        if let Err(error) = self.continuation.end(reason) {
            return self.fail(error, monitor);
        }
        if let Some(chunk) = self.continuation.take_last() {
            self.tell(Event::Chunk(chunk));
        }
        let generation = self.continuation.generation(self.attempt.counts());
        // Who has an answer finds it counted.
        monitor.finished(generation.finish_reason);
        self.tell(Event::Done(Box::new(generation)));
    }

    /// Ends it with an error.
    pub(super) fn fail(mut self, error: Error, monitor: &PerformanceMonitor) {
        monitor.failed(error.kind());
        self.tell(Event::Failed(error));
    }
}
