//! What becomes of a step that fails.

use super::page_pool::{PagePool, Pages};
use super::scheduler::Scheduler;
use crate::monitor::Recovery;
use crate::{Error, Result};

impl Scheduler {
    /// Runs the batch. When it fails: again, then with less, then each sequence alone, then on the next device.
    pub(super) fn run_recovering(&mut self) {
        let all = 0..self.running.len();
        let Err(error) = self.run(all.clone()) else { return };
        if self.run(all).is_ok() {
            return self.monitor.recovered(Recovery::Retry);
        }
        if matches!(error, Error::OutOfMemory { .. }) && self.shrink() {
            return self.monitor.recovered(Recovery::Degrade);
        }
        let alone: Vec<Option<Result<()>>> =
            (0..self.running.len()).map(|index| self.run_alone(index)).collect();
        if !alone.iter().flatten().any(Result::is_ok) && self.device.fall_back() {
            self.start_again();
            return self.monitor.recovered(Recovery::Fallback);
        }
        self.fail_each(alone);
    }

    /// Runs one sequence of the batch; `None` when it has no part in it, and says nothing of the device.
    fn run_alone(&mut self, index: usize) -> Option<Result<()>> {
        let is_planned = self.running[index].work().is_some();
        is_planned.then(|| self.run(index..index + 1))
    }

    /// Goes on with half of the tokens; false when that is nothing.
    fn shrink(&mut self) -> bool {
        if self.step_tokens == 1 {
            return false;
        }
        self.step_tokens /= 2;
        self.max_batch = self.max_batch.min(self.step_tokens);
        while self.running.len() > self.max_batch {
            self.preempt();
        }
        self.running.iter_mut().for_each(|task| task.attempt.clear());
        true
    }

    /// Forgets all that was computed.
    fn start_again(&mut self) {
        self.pool = PagePool::new(self.device.limits().pages);
        for mut task in self.running.drain(..) {
            (task.pages, task.computed) = (Pages::default(), 0);
            task.attempt.clear();
            self.waiting.push(task);
        }
    }

    /// Ends the running requests that failed.
    fn fail_each(&mut self, results: Vec<Option<Result<()>>>) {
        let mut running = Vec::with_capacity(self.running.len());
        for (mut task, result) in std::mem::take(&mut self.running).into_iter().zip(results) {
            match result {
                None | Some(Ok(())) => running.push(task),
                Some(Err(error)) => {
                    self.pool.finish(std::mem::take(&mut task.pages), &[]);
                    self.monitor.recovered(Recovery::Isolate);
                    task.fail(error, &self.monitor);
                }
            }
        }
        self.running = running;
    }
}
