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
    /// Tokens of the next step: pending ones, and guesses behind them.
    pub(super) input: Vec<u32>,
    /// How many of the input are guesses.
    guesses: usize,
    /// Outputs of the step that were not looked at yet.
    outputs: Range<usize>,
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
    /// Errors: those of [`Continuation::new`].
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
            continuation,
            pages: Pages::default(),
            computed: 0,
            input: Vec::new(),
            guesses: 0,
            outputs: 0..0,
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
        self.input.clear();
        self.input.extend_from_slice(&pending[..most.min(pending.len())]);
        self.guesses = 0;
        self.input.len()
    }

    /// What the device is to compute, if there is anything.
    pub(super) fn work(&self) -> Option<Work<'_>> {
        let (ids, pages) = (&self.input[..], self.pages.as_slice());
        let work = Work { ids, position: self.computed, pages, outputs: self.needed_outputs() };
        (!ids.is_empty()).then_some(work)
    }

    /// Outputs that the input has to give: none while a part of the prompt is still to come.
    fn needed_outputs(&self) -> usize {
        let is_all = self.input.len() - self.guesses == self.pending();
        if is_all && !self.input.is_empty() { self.guesses + 1 } else { 0 }
    }

    /// Its outputs begin at `first`; returns where those of the next task do.
    pub(super) fn expect_outputs(&mut self, first: usize) -> usize {
        self.outputs = first..first + self.needed_outputs();
        self.outputs.end
    }

    /// Outputs to choose from now: all that are left, or one where the choice changes what the next one may be.
    pub(super) fn next_outputs(&self) -> Range<usize> {
        let end = if self.continuation.has_fixed_cut() { self.outputs.end } else { self.outputs.start + 1 };
        self.outputs.start..end.min(self.outputs.end)
    }

    /// Keys and values of the input, without its guesses, are there.
    pub(super) fn take_computed(&mut self) {
        self.computed += self.input.len() - self.guesses;
    }

    /// Chooses a token from an output, if it still counts.
    pub(super) fn take(&mut self, output: usize, answer: Result<&[Candidate]>, monitor: &PerformanceMonitor) {
        if output != self.outputs.start || self.outputs.is_empty() {
            return;
        }
        let guess = self.input.len() - (self.outputs.len() - 1);
        self.outputs.start += 1;
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
        let is_right = id.is_some() && id == self.input.get(guess).copied();
        if is_right && !self.is_over() {
            self.computed += 1;
        } else {
            self.outputs = 0..0;
        }
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
        let generation = self.continuation.generation();
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
