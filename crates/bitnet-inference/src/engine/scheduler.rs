//! Which sequences run in the next step, and what becomes of its outputs.
//!
//! Requests join and leave between any two steps. A step holds one token of every sequence that decodes, pieces of
//! prompts in the room that is left, and guesses in what is left then. What a request gets does not depend on the others:
//! a backend gives the same bits for a token whatever shares its batch.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::choosing::choose;
use super::device::Device;
use super::options::EngineOptions;
use super::page_pool::PagePool;
use super::task::Task;
use crate::Result;
use crate::backend::{Page, Work};
use crate::monitor::{PerformanceMonitor, Recovery, StepReport, span};
use crate::speculation::{Place, StepTimes};

/// Tokens of a common beginning that are worth waiting for until another sequence has computed them.
const SHARED: usize = 32;

/// Waiting requests that are looked at for each place.
const LOOK_AHEAD: usize = 64;

/// Requests that wait and requests that run.
pub(super) struct Scheduler {
    options: EngineOptions,
    pub(super) device: Device,
    pub(super) pool: PagePool,
    pub(super) waiting: Vec<Task>,
    /// Those that come first when something is short stand first.
    pub(super) running: Vec<Task>,
    pub(super) monitor: Arc<PerformanceMonitor>,
    times: StepTimes,
    /// Requests so far.
    requests: u64,
    /// Tokens of a step, and sequences in it: less than the options say after the device ran out of memory.
    pub(super) step_tokens: usize,
    pub(super) max_batch: usize,
}

impl Scheduler {
    pub(super) fn new(options: EngineOptions, device: Device, monitor: Arc<PerformanceMonitor>) -> Self {
        Self {
            pool: PagePool::new(device.limits().pages),
            step_tokens: options.step_tokens,
            max_batch: options.max_batch,
            options,
            device,
            waiting: Vec::new(),
            running: Vec::new(),
            monitor,
            times: StepTimes::default(),
            requests: 0,
        }
    }

    /// Takes a request in.
    pub(super) fn add(&mut self, mut task: Task) {
        self.requests += 1;
        task.number = self.requests;
        self.waiting.push(task);
    }

    /// Requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Pages of the KV cache that requests hold.
    #[cfg(test)]
    pub(super) fn pages_in_use(&self) -> usize {
        self.pool.in_use()
    }

    /// Runs one batch.
    pub(super) fn step(&mut self) {
        let (now, before) = (Instant::now(), self.device.traffic());
        self.end_stopped(now);
        self.running.sort_by_key(|task| task.rank(now));
        self.admit(now);
        self.plan();
        self.give_pages();
        let report = self.report();
        let _span = span::step(report.sequences, report.prefill_tokens, report.decode_tokens);
        self.run_recovering();
        self.retire();
        let traffic = self.device.traffic() - before;
        self.monitor.step(&StepReport { duration: now.elapsed(), traffic, ..report });
    }

    /// Ends everything that is left.
    pub(super) fn stop(&mut self, reason: crate::FinishReason) {
        for mut task in self.waiting.drain(..).chain(self.running.drain(..)) {
            let_go(&mut self.pool, &mut task);
            task.end(reason, &self.monitor);
        }
    }

    /// Ends what was cancelled, and what came too late.
    fn end_stopped(&mut self, now: Instant) {
        let Self { waiting, running, pool, monitor, .. } = self;
        for tasks in [waiting, running] {
            for mut task in tasks.extract_if(.., |task| task.stopped(now).is_some()) {
                let Some(reason) = task.stopped(now) else { continue };
                let_go(pool, &mut task);
                task.end(reason, monitor);
            }
        }
    }

    /// Lets waiting requests run, as long as there is room.
    fn admit(&mut self, now: Instant) {
        self.waiting.sort_by_key(|task| task.rank(now));
        while self.running.len() < self.max_batch {
            let candidates = 0..self.waiting.len().min(LOOK_AHEAD);
            let Some(next) = candidates.into_iter().find(|&index| !self.is_about_to_be_held(index)) else {
                break;
            };
            let tokens = self.waiting[next].continuation.tokens();
            // One page more, so that it does not give way to the first token of another.
            let needed = Page::count(tokens.len()) + usize::from(!self.running.is_empty());
            if self.pool.available() < needed {
                break;
            }
            let mut task = self.waiting.remove(next);
            // The last token is computed in any case: its output is asked for.
            let tokens = task.continuation.tokens();
            let device = &mut self.device;
            let copy = |from, to| device.session().copy_page(from, to);
            (task.pages, task.computed) = self.pool.start(&tokens[..tokens.len() - 1], copy);
            self.monitor.prefix_looked_up(task.computed);
            self.running.push(task);
        }
    }

    /// Whether a running request is computing what this one begins with.
    fn is_about_to_be_held(&mut self, waiting: usize) -> bool {
        let tokens = self.waiting[waiting].continuation.tokens();
        let common = |task: &Task| {
            let theirs = task.continuation.tokens();
            let len = theirs.iter().zip(tokens).take_while(|(a, b)| a == b).count();
            (task.computed < len).then_some(len)
        };
        let prefilling = self.running.iter().filter(|task| task.is_prefilling());
        let longest = prefilling.filter_map(common).max().unwrap_or(0);
        longest >= SHARED && longest >= self.pool.held(tokens) + SHARED
    }

    /// Decides what each running request computes in this step.
    fn plan(&mut self) {
        let mut left = self.step_tokens;
        for task in self.running.iter_mut().filter(|task| !task.is_prefilling()) {
            left -= task.plan(left.min(1));
        }
        if self.running.iter().any(|task| !task.is_prefilling()) {
            left = left.min(self.options.prefill_chunk);
        }
        for task in self.running.iter_mut().filter(|task| task.is_prefilling()) {
            left -= task.plan(left);
        }
        self.guess(left);
    }

    /// Adds guesses to sequences that decode, `left` at most.
    fn guess(&mut self, mut left: usize) {
        let mut planned = self.running.iter().map(|task| task.attempt.ids().len()).sum::<usize>();
        let decodes = |task: &&mut Task| !task.attempt.ids().is_empty() && !task.is_prefilling();
        for task in self.running.iter_mut().filter(decodes) {
            let guesses = task.guess(Place { most: left, beside: planned - 1, times: &self.times });
            left -= guesses;
            planned += guesses;
        }
    }

    /// Gives every planned request its pages; those that come last give theirs up where there are not enough.
    fn give_pages(&mut self) {
        let mut index = 0;
        while index < self.running.len() {
            let task = &mut self.running[index];
            if self.pool.grow(&mut task.pages, task.computed + task.attempt.ids().len()) {
                index += 1;
            } else if !task.attempt.drop_guesses() {
                self.preempt();
            }
        }
    }

    /// Sends the last of the running requests back to wait. What it computed is held as long as nobody needs the pages.
    pub(super) fn preempt(&mut self) {
        let Some(mut task) = self.running.pop() else { return };
        let_go(&mut self.pool, &mut task);
        self.waiting.push(task);
        self.monitor.recovered(Recovery::Preempt);
    }

    /// What the step is about to do.
    fn report(&self) -> StepReport {
        let tokens = |is_prefilling| {
            let tasks = self.running.iter().filter(move |task| task.is_prefilling() == is_prefilling);
            tasks.map(|task| task.attempt.ids().len()).sum()
        };
        StepReport {
            prefill_tokens: tokens(true),
            decode_tokens: tokens(false),
            sequences: self.running.iter().filter(|task| !task.attempt.ids().is_empty()).count(),
            capacity: self.options.max_batch,
            queue_depth: self.waiting.len(),
            kv_pages_used: self.pool.in_use(),
            kv_pages_total: self.pool.len(),
            ..StepReport::default()
        }
    }

    /// Computes the input of some running requests, and chooses their next tokens.
    pub(super) fn run(&mut self, tasks: Range<usize>) -> Result<()> {
        let tasks = &mut self.running[tasks];
        let work: Vec<Work<'_>> = tasks.iter().filter_map(Task::work).collect();
        if work.is_empty() {
            return Ok(());
        }
        let tokens = work.iter().map(|work| work.ids.len()).sum();
        let started = Instant::now();
        self.device.execute(&work)?;
        choose(&mut self.device, tasks, &self.monitor)?;
        self.times.record(tokens, started.elapsed().as_secs_f64());
        for task in tasks {
            let pending = task.attempt.pending();
            task.finish_step();
            let (pages, tokens) = (&mut task.pages, &task.continuation.tokens()[..task.computed]);
            // Others may wait for the end of a prompt.
            match pending {
                1 => self.pool.enter(pages, tokens),
                _ => self.pool.enter_all(pages, tokens),
            }
        }
        Ok(())
    }

    /// Lets go of the requests that are done.
    fn retire(&mut self) {
        let Self { running, pool, monitor, .. } = self;
        for mut task in running.extract_if(.., |task| task.is_over()) {
            let_go(pool, &mut task);
            if let Some(error) = task.take_error() {
                monitor.recovered(Recovery::Isolate);
                task.fail(error, monitor);
            } else {
                let reason = task.continuation.finish().expect("what is over has ended");
                task.end(reason, monitor);
            }
        }
    }
}

/// Takes the pages of a task. What it computed is held as long as nobody needs them.
fn let_go(pool: &mut PagePool, task: &mut Task) {
    let pages = std::mem::take(&mut task.pages);
    pool.finish(pages, &task.continuation.tokens()[..task.computed]);
    task.computed = 0;
    task.attempt.clear();
}
