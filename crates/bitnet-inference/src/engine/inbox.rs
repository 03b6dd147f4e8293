//! Requests on their way from any thread to that of the engine.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::scheduler::Scheduler;
use super::task::Task;
use crate::monitor::PerformanceMonitor;
use crate::{Error, Result};

/// A queue that is full when so many requests wait, here or in the scheduler.
pub(super) struct Inbox {
    capacity: usize,
    monitor: Arc<PerformanceMonitor>,
    state: Mutex<State>,
    /// There is something for the engine to do.
    filled: Condvar,
    /// The queue has become shorter, or is closed.
    emptied: Condvar,
}

#[derive(Default)]
struct State {
    tasks: Vec<Task>,
    /// Requests that the scheduler has, and that do not run.
    waiting: usize,
    closing: Option<Closing>,
}

/// How an engine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// With all it was asked for.
    Finish,
    /// At once.
    Cancel,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl Inbox {
    pub(super) fn new(capacity: usize, monitor: Arc<PerformanceMonitor>) -> Self {
        let (filled, emptied) = (Condvar::new(), Condvar::new());
        Self { capacity, monitor, state: Mutex::default(), filled, emptied }
    }

    /// Takes a request in.
    ///
    /// Errors: [`Error::QueueFull`], [`Error::EngineClosed`].
    pub(super) fn send(&self, task: Task) -> Result<()> {
        let state = self.lock();
        if self.is_full(&state) {
            self.monitor.rejected();
            return Err(Error::QueueFull { capacity: self.capacity });
        }
        self.push(state, task)
    }

    /// Takes a request in, as soon as there is a place.
    ///
    /// Errors: [`Error::EngineClosed`].
    pub(super) fn send_waiting(&self, task: Task) -> Result<()> {
        let state = self.emptied.wait_while(self.lock(), |state| self.is_full(state));
        self.push(state.unwrap_or_else(PoisonError::into_inner), task)
    }

    /// Waits until there is a place, or the queue is closed; whether that is so after at most `timeout`.
    pub(super) fn wait_for_place(&self, timeout: Duration) -> bool {
        let waited = self.emptied.wait_timeout_while(self.lock(), timeout, |state| self.is_full(state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Hands what came to the scheduler, and waits for something where that is idle. How to end, once that is
    /// to be.
    pub(super) fn hand_over(&self, scheduler: &mut Scheduler) -> Option<Closing> {
        let mut state = self.lock();
        // The last step may have emptied the queue.
        state.waiting = scheduler.waiting();
        self.emptied.notify_all();
        let is_bored =
            |state: &mut State| state.tasks.is_empty() && state.closing.is_none() && scheduler.is_idle();
        state = self.filled.wait_while(state, is_bored).unwrap_or_else(PoisonError::into_inner);
        state.tasks.drain(..).for_each(|task| scheduler.add(task));
        state.waiting = scheduler.waiting();
        state.closing
    }

    /// Takes nothing any more.
    pub(super) fn close(&self, closing: Closing) {
        self.lock().closing = Some(closing);
        self.filled.notify_all();
        self.emptied.notify_all();
    }

    /// [`Self::close`], and forgets what nobody will take out: who asked for it hears of nothing.
    pub(super) fn abandon(&self) {
        self.close(Closing::Cancel);
        self.lock().tasks.clear();
    }

    fn is_full(&self, state: &State) -> bool {
        state.closing.is_none() && state.tasks.len() + state.waiting >= self.capacity
    }

    fn push(&self, mut state: MutexGuard<'_, State>, task: Task) -> Result<()> {
        if state.closing.is_some() {
            return Err(Error::EngineClosed);
        }
        state.tasks.push(task);
        // Before it can end.
        self.monitor.submitted();
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
