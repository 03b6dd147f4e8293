//! A thread pool for jobs of microseconds: workers spin a moment before they sleep, and nobody waits for a worker that
//! has not begun.
//!
//! Decoding one token dispatches some hundred matrix products of 10 to 200 µs each. Waking a sleeping thread costs
//! more than 5 µs, so a worker that has just finished spins for the next job and parks only when none comes.
//!
//! A job is a row of units, of which every thread, the calling one among them, owns an equal part. It takes pieces off
//! the front of its part, ever smaller ones, so that it walks through memory in order and what it asked for ahead is
//! its own; with nothing left, it takes from the backs of the others' parts. On a machine with other work the system may
//! take a worker off its core for milliseconds; such a worker takes nothing, the others do its share, and the job ends
//! without it.
//!
//! One word holds the state: the number of the job, whether it is open, and how many workers are in it. A worker enters
//! an open job by adding itself in one compare-and-swap. The caller closes the job when no unit is left, after which
//! nobody enters, and waits for those inside; then it may drop the closure.

use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};

use crate::{DisjointSlice, Error, Result};

/// More threads than any machine this is meant for has cores.
const MAX_THREADS: usize = 1024;

/// Turns of the spin loop before a worker parks: about 20 to 50 µs. They are plain loads but for a pause in every so many:
/// a host may take a virtual CPU that pauses all the time off its core.
const SPINS: usize = 16_000;
const LOADS_PER_PAUSE: usize = 32;

/// What a thread takes at a time of what is left in a part: enough stays for the others to take over.
const PIECE: u64 = 4;

/// The state word: job number above, then these.
const JOB: u64 = 1 << 32;
const OPEN: u64 = 1 << 31;
const STOP: u64 = 1 << 30;
const INSIDE: u64 = (1 << 16) - 1;

type Job = dyn Fn(Range<usize>) + Sync;

/// Threads that run one job together.
#[derive(Debug)]
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    sleepers: Vec<Thread>,
    turn: Mutex<()>,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU64,
    /// The units left, a part for each thread.
    parts: Vec<Part>,
    job: JobSlot,
    panicked: AtomicBool,
    parked: Vec<AtomicBool>,
}

/// What is left of a part: the first unit in the low half, the end in the high one. On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Part(AtomicU64);

impl Part {
    fn set(&self, units: Range<u64>) {
        self.0.store(units.end << 32 | units.start, Ordering::Relaxed);
    }

    /// A share of what is left, off the front or off the back.
    fn take(&self, from_front: bool) -> Option<Range<usize>> {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            let (start, end) = (now & u64::from(u32::MAX), now >> 32);
            let count = end.saturating_sub(start).div_ceil(PIECE);
            let (taken, left) = match (count, from_front) {
                (0, _) => return None,
                (_, true) => (start..start + count, start + count..end),
                (_, false) => (end - count..end, start..end - count),
            };
            let left = left.end << 32 | left.start;
            match self.0.compare_exchange_weak(now, left, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(taken.start as usize..taken.end as usize),
                Err(changed) => now = changed,
            }
        }
    }
}

/// The closure of the present job.
#[derive(Debug)]
struct JobSlot(UnsafeCell<Option<*const Job>>);

#[expect(unsafe_code, reason = "the slot carries a borrowed closure to the workers")]
// SAFETY: written by the caller while the state is closed and nobody is inside, read by workers that have entered.
unsafe impl Sync for JobSlot {}
#[expect(unsafe_code, reason = "see Sync")]
// SAFETY: as above; the closure behind the pointer is `Sync`.
unsafe impl Send for JobSlot {}

impl ThreadPool {
    /// A pool of `threads` threads, the calling one included.
    pub fn new(threads: usize) -> Result<Self> {
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(Error::ThreadCount { got: threads, max: MAX_THREADS });
        }
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            parts: (0..threads).map(|_| Part::default()).collect(),
            job: JobSlot(UnsafeCell::new(None)),
            panicked: AtomicBool::new(false),
            parked: (1..threads).map(|_| AtomicBool::new(false)).collect(),
        });
        let mut pool = Self { shared, workers: Vec::new(), sleepers: Vec::new(), turn: Mutex::new(()) };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = std::thread::Builder::new()
                .name(format!("bitnet-{index}"))
                .spawn(move || work(&shared, index))
                .map_err(|error| Error::ThreadSpawn(error.to_string()))?;
            pool.sleepers.push(worker.thread().clone());
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Threads by default: the physical cores, as far as affinity and cgroup limits leave them to this process.
    pub fn default_threads() -> usize {
        let allowed = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        allowed.min(num_cpus::get_physical()).clamp(1, MAX_THREADS)
    }

    /// Number of threads, the calling one included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Splits `0..len` into contiguous ranges, multiples of `grain` but for the last, and runs `job(range)` once on
    /// each, on any thread. Returns when all are done.
    ///
    /// Allocates nothing. Panics of the job come out here, after every thread has left it.
    pub fn split(&self, len: usize, grain: usize, job: impl Fn(Range<usize>) + Sync) {
        if self.threads() == 1 || len <= grain {
            if len > 0 {
                job(0..len);
            }
            return;
        }
        // So many units that they fit into a half of a word.
        let grain = grain * len.div_ceil(grain).div_ceil(u32::MAX as usize);
        self.run(len.div_ceil(grain), &|units| job(units.start * grain..(units.end * grain).min(len)));
    }

    /// Splits `out`, rows of `row_len`, into ranges of whole rows and runs `job(rows, part)` once on each, `part` being
    /// the elements of `rows`: see [`Self::split`].
    ///
    /// Panics unless `out` is whole rows.
    #[expect(unsafe_code, reason = "threads write disjoint rows")]
    pub fn split_rows<T: Send>(
        &self,
        out: &mut [T],
        row_len: usize,
        job: impl Fn(Range<usize>, &mut [T]) + Sync,
    ) {
        let rows = out.len().checked_div(row_len).unwrap_or(0);
        assert_eq!(rows * row_len, out.len(), "whole rows of {row_len}");
        let out = DisjointSlice::new(out);
        self.split(rows, 1, |rows| {
            // SAFETY: the ranges of a split do not overlap, and neither do those of their rows.
            let part = unsafe { out.part(rows.start * row_len..rows.end * row_len) };
            job(rows, part);
        });
    }

    /// Runs `job` on ranges that make up `0..units`.
    fn run(&self, units: usize, job: &(dyn Fn(Range<usize>) + Sync)) {
        let _turn: MutexGuard<'_, ()> = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.open(units as u64, job);
        let own = catch_unwind(AssertUnwindSafe(|| self.shared.run_units(0, job)));
        self.shared.state.fetch_and(!OPEN, Ordering::Relaxed);
        self.shared.wait_until_nobody_is_inside();
        let others_panicked = self.shared.panicked.swap(false, Ordering::Relaxed);
        match own {
            Err(panic) => resume_unwind(panic),
            Ok(()) => assert!(!others_panicked, "a worker thread panicked"),
        }
    }

    #[expect(unsafe_code, reason = "erases the lifetime of the job")]
    fn open(&self, units: u64, job: &(dyn Fn(Range<usize>) + Sync)) {
        // SAFETY: only the lifetime changes; `run` does not return while a worker is inside, and none enters later.
        let job: *const Job =
            unsafe { std::mem::transmute::<&(dyn Fn(Range<usize>) + Sync), &'static Job>(job) };
        // SAFETY: `run` holds the turn, the last job was closed and left by all: no worker reads the slot now.
        unsafe { *self.shared.job.0.get() = Some(job) };
        let threads = self.threads() as u64;
        for (index, part) in (0..threads).zip(&self.shared.parts) {
            part.set(units * index / threads..units * (index + 1) / threads);
        }
        let closed = self.shared.state.load(Ordering::Relaxed);
        // Sequentially consistent with `parked`: either the worker sees the new job or we see it parked.
        self.shared.state.store(closed.wrapping_add(JOB) | OPEN, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        for (parked, thread) in self.shared.parked.iter().zip(&self.sleepers) {
            if parked.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.state.fetch_or(STOP, Ordering::SeqCst);
        for (worker, thread) in self.workers.drain(..).zip(&self.sleepers) {
            thread.unpark();
            // A worker catches the panics of its jobs; there is nothing to report from its end.
            drop(worker.join());
        }
    }
}

impl Shared {
    /// Adds the calling worker to the job of `state` if that is still the present one and open.
    fn enter(&self, mut state: u64) -> bool {
        let job = state / JOB;
        while state & OPEN != 0 && state / JOB == job {
            match self.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// Runs units until none is left, as thread `index`.
    fn run_units(&self, index: usize, job: &(dyn Fn(Range<usize>) + Sync)) {
        while let Some(units) = self.parts[index].take(true) {
            job(units);
        }
        let (before, after) = self.parts.split_at(index);
        for others in after.iter().chain(before) {
            while let Some(units) = others.take(false) {
                job(units);
            }
        }
    }

    fn wait_until_nobody_is_inside(&self) {
        let mut spins = 0;
        while self.state.load(Ordering::Acquire) & INSIDE != 0 {
            pause_at_times(spins);
            spins += 1;
            // A worker that lost its core in the middle of a piece needs ours.
            if spins > SPINS {
                std::thread::yield_now();
            }
        }
    }

    /// Waits for a job other than number `seen`, or for the end.
    fn wait_for_job(&self, parked: &AtomicBool, seen: u64) -> u64 {
        let is_new = |state: u64| state / JOB != seen || state & STOP != 0;
        for spin in 0..SPINS {
            let state = self.state.load(Ordering::Acquire);
            if is_new(state) {
                return state;
            }
            pause_at_times(spin);
        }
        parked.store(true, Ordering::SeqCst);
        let state = loop {
            let state = self.state.load(Ordering::SeqCst);
            if is_new(state) {
                break state;
            }
            std::thread::park();
        };
        parked.store(false, Ordering::SeqCst);
        state
    }
}

fn pause_at_times(spin: usize) {
    if spin % LOADS_PER_PAUSE == LOADS_PER_PAUSE - 1 {
        std::hint::spin_loop();
    }
}

#[expect(unsafe_code, reason = "runs the borrowed job")]
fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let state = shared.wait_for_job(&shared.parked[index - 1], seen);
        if state & STOP != 0 {
            return;
        }
        seen = state / JOB;
        if !shared.enter(state) {
            continue;
        }
        // SAFETY: this worker has entered, so the slot holds the present job, which lives until all have left it.
        let job = unsafe { (*shared.job.0.get()).map(|job| &*job) };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if let Some(job) = job {
                shared.run_units(index, job);
            }
        }));
        if outcome.is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.state.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn every_unit_of_every_job_runs_once() {
        for threads in [1, 2, 5] {
            let pool = ThreadPool::new(threads).unwrap();
            for (len, grain) in [(0, 1), (1, 1), (7, 2), (100, 8), (100, 64), (5, 100), (1000, 1)] {
                let hits: Vec<AtomicUsize> = (0..len).map(|_| AtomicUsize::new(0)).collect();
                for round in 1..=100 {
                    pool.split(len, grain, |range| {
                        assert!(range.start.is_multiple_of(grain) && !range.is_empty());
                        for i in range {
                            hits[i].fetch_add(1, Ordering::Relaxed);
                        }
                    });
                    assert!(
                        hits.iter().all(|hit| hit.load(Ordering::Relaxed) == round),
                        "{threads} {len} {grain}"
                    );
                }
            }
        }
    }

    #[test]
    fn rows_are_split_as_a_whole() {
        for (threads, rows, row_len) in [(1, 3, 2), (2, 7, 3), (3, 64, 1), (2, 0, 5), (2, 0, 0)] {
            let mut out = vec![0; rows * row_len];
            ThreadPool::new(threads).unwrap().split_rows(&mut out, row_len, |rows, part| {
                assert_eq!(part.len(), rows.len() * row_len);
                for (row, part) in rows.zip(part.chunks_exact_mut(row_len)) {
                    part.fill(row + 1);
                }
            });
            assert!(out.iter().enumerate().all(|(at, &value)| value == at / row_len + 1), "{out:?}");
        }
    }

    #[test]
    fn sleeping_workers_wake_up_and_share() {
        let pool = ThreadPool::new(2).unwrap();
        let caller = std::thread::current().id();
        let is_shared = (0..50).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let others = AtomicUsize::new(0);
            pool.split(8, 1, |_| {
                std::thread::sleep(std::time::Duration::from_millis(2));
                others.fetch_add(usize::from(std::thread::current().id() != caller), Ordering::Relaxed);
            });
            others.load(Ordering::Relaxed) > 0
        });
        assert!(is_shared, "the worker never took a unit");
    }

    #[test]
    fn a_panic_on_any_thread_comes_out_and_the_pool_lives_on() {
        let pool = ThreadPool::new(2).unwrap();
        for bad in 0..8 {
            let run = || pool.split(8, 1, |range| assert!(!range.contains(&bad), "planted"));
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        }
        pool.split(8, 1, |_| {});
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = ThreadPool::new(2).unwrap();
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        pool.split(8, 1, |range| {
                            count.fetch_add(range.len(), Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 4 * 500 * 8);
    }

    #[test]
    fn no_threads_is_an_error() {
        assert!(matches!(ThreadPool::new(0), Err(Error::ThreadCount { got: 0, .. })));
    }
}
