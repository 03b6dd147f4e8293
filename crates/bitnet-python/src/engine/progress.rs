//! What is known of a request: the engine's thread adds to it, and any other waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitnet_inference::engine::Event;
use bitnet_inference::{Chunk, Error, FinishReason, Generation};
use pyo3::prelude::*;

use super::notifier::Outbox;

/// How a request ended.
pub(super) type Outcome = Result<Generation, Arc<Error>>;

/// What comes next of a request, for who reads its chunks.
pub(super) enum Next {
    Chunk(Chunk),
    End,
    Failed(Arc<Error>),
}

/// A future of asyncio, and its event loop.
pub(super) struct Waiter {
    pub(super) event_loop: Py<PyAny>,
    pub(super) future: Py<PyAny>,
}

/// Who wants to be told of a request by the notifier.
#[derive(Default)]
pub(super) struct Listeners {
    pub(super) waiters: Vec<Waiter>,
    /// What is to be called at the end, each with the object of the request.
    pub(super) callbacks: Vec<(Py<PyAny>, Py<PyAny>)>,
}

/// A request so far.
///
/// No Python object is dropped, and the interpreter's lock is not waited for, while the state is locked: its finalizer
/// could ask for the same state.
pub(super) struct Progress {
    state: Mutex<State>,
    has_chunk: Condvar,
    has_ended: Condvar,
    outbox: Outbox,
    keeps_chunks: bool,
}

#[derive(Default)]
struct State {
    /// Those that nobody has taken.
    chunks: VecDeque<Chunk>,
    has_begun: bool,
    outcome: Option<Outcome>,
    chunk_waiters: Vec<Waiter>,
    at_end: Listeners,
    /// The notifier has been told, and has not come yet.
    is_announced: bool,
}

impl Progress {
    pub(super) fn new(outbox: Outbox, keeps_chunks: bool) -> Arc<Self> {
        let (state, has_chunk, has_ended) = <(Mutex<State>, Condvar, Condvar)>::default();
        Arc::new(Self { state, has_chunk, has_ended, outbox, keeps_chunks })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the engine says. Never waits for the interpreter.
    pub(super) fn take(self: &Arc<Self>, event: Event) {
        let outcome = match event {
            Event::Chunk(chunk) => return self.push(chunk),
            Event::Done(generation) => Ok(*generation),
            Event::Failed(error) => Err(Arc::new(error)),
        };
        self.end(outcome);
    }

    fn push(self: &Arc<Self>, chunk: Chunk) {
        if !self.keeps_chunks {
            return;
        }
        let mut state = self.lock();
        state.chunks.push_back(chunk);
        state.has_begun = true;
        let is_heard = !state.chunk_waiters.is_empty();
        self.has_chunk.notify_all();
        self.announce(state, is_heard);
    }

    /// Ends the request, unless it has ended.
    pub(super) fn end(self: &Arc<Self>, outcome: Outcome) {
        let mut state = self.lock();
        if state.outcome.is_some() {
            return;
        }
        state.outcome = Some(outcome);
        let at_end = &state.at_end;
        let is_heard =
            !(state.chunk_waiters.is_empty() && at_end.waiters.is_empty() && at_end.callbacks.is_empty());
        self.has_chunk.notify_all();
        self.has_ended.notify_all();
        self.announce(state, is_heard);
    }

    /// Tells the notifier, which is told once until it comes.
    fn announce(self: &Arc<Self>, mut state: MutexGuard<'_, State>, is_heard: bool) {
        if is_heard && !std::mem::replace(&mut state.is_announced, true) {
            drop(state);
            self.outbox.tell(Arc::clone(self));
        }
    }

    /// The next chunk, after at most `timeout`.
    pub(super) fn next_within(&self, timeout: Duration) -> Option<Next> {
        let mut state = self.lock();
        if state.is_empty() {
            let waited = self.has_chunk.wait_timeout_while(state, timeout, |state| state.is_empty());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if let Some(chunk) = state.chunks.pop_front() {
            return Some(Next::Chunk(chunk));
        }
        state.outcome.as_ref().map(|outcome| match outcome {
            Ok(_) => Next::End,
            Err(error) => Next::Failed(Arc::clone(error)),
        })
    }

    /// How it ended, after at most `timeout`.
    pub(super) fn outcome_within(&self, timeout: Duration) -> Option<Outcome> {
        let mut state = self.lock();
        if state.outcome.is_none() {
            let waited = self.has_ended.wait_timeout_while(state, timeout, |state| state.outcome.is_none());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.outcome.clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().outcome.is_some()
    }

    /// Whether there is text, and more to come.
    pub(super) fn is_running(&self) -> bool {
        let state = self.lock();
        state.has_begun && state.outcome.is_none()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        let reason = |outcome: &Outcome| outcome.as_ref().ok().map(|generation| generation.finish_reason);
        self.lock().outcome.as_ref().and_then(reason) == Some(FinishReason::Cancelled)
    }

    /// Has the notifier wake a future at the end, or already at the next chunk. Gives it back when that is there.
    pub(super) fn add_waiter(&self, waiter: Waiter, at_end: bool) -> Option<Waiter> {
        let mut state = self.lock();
        if state.outcome.is_some() || (!at_end && !state.is_empty()) {
            return Some(waiter);
        }
        let waiters = if at_end { &mut state.at_end.waiters } else { &mut state.chunk_waiters };
        waiters.push(waiter);
        None
    }

    /// Has the notifier call something at the end. Gives it back when that has come.
    pub(super) fn add_callback(&self, callback: (Py<PyAny>, Py<PyAny>)) -> Option<(Py<PyAny>, Py<PyAny>)> {
        let mut state = self.lock();
        if state.outcome.is_some() {
            return Some(callback);
        }
        state.at_end.callbacks.push(callback);
        None
    }

    /// Who is to be told now, once.
    pub(super) fn take_listeners(&self) -> Listeners {
        let mut state = self.lock();
        state.is_announced = false;
        let mut listeners = Listeners::default();
        if state.outcome.is_some() {
            std::mem::swap(&mut listeners, &mut state.at_end);
        }
        listeners.waiters.append(&mut state.chunk_waiters);
        listeners
    }
}

impl State {
    /// Whether a reader would have to wait.
    fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.outcome.is_none()
    }
}
