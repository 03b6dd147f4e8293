//! A thread pool for jobs of microseconds: workers spin a moment before they sleep.
//!
//! Decoding one token dispatches some hundred matrix products of 10 to 200 µs each. Waking a sleeping thread costs
//! more than 5 µs, so a worker that has just finished spins for the next job and parks only when none comes.
//! There is one job at a time; the calling thread takes part in it.

use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};

use crate::{Error, Result};

/// More threads than any machine this is meant for has cores.
const MAX_THREADS: usize = 1024;

/// Turns of the spin loop before a worker parks: about 20 to 50 µs.
const SPINS: usize = 4000;

type Job = dyn Fn(usize) + Sync;

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
    /// Counts the jobs; a worker runs a job when it sees the number change.
    epoch: AtomicUsize,
    /// Workers that have not finished the present job.
    running: AtomicUsize,
    stop: AtomicBool,
    panicked: AtomicBool,
    job: JobSlot,
    parked: Vec<AtomicBool>,
}

#[derive(Debug)]
struct JobSlot(UnsafeCell<Option<*const Job>>);

#[expect(unsafe_code, reason = "the slot carries a borrowed closure to the workers")]
// SAFETY: written by the dispatching thread while no worker runs, read by workers between the release store of
// `epoch` and their release decrement of `running`.
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
            epoch: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            job: JobSlot(UnsafeCell::new(None)),
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

    /// Runs `job(thread)` once on every thread, `thread` counting from 0, and returns when all are done.
    ///
    /// Allocates nothing. Panics of the job come out here, after every thread has finished.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            return job(0);
        }
        let _turn: MutexGuard<'_, ()> = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.publish(job);
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        wait_for_workers(&self.shared);
        let others_panicked = self.shared.panicked.swap(false, Ordering::Relaxed);
        match own {
            Err(panic) => resume_unwind(panic),
            Ok(()) => assert!(!others_panicked, "a worker thread panicked"),
        }
    }

    /// Splits `0..len` into one contiguous range per thread, as equal as multiples of `grain` allow, and runs
    /// `job(range)` on each non-empty one.
    pub fn split(&self, len: usize, grain: usize, job: impl Fn(Range<usize>) + Sync) {
        let threads = self.threads();
        if threads == 1 || len <= grain {
            if len > 0 {
                job(0..len);
            }
            return;
        }
        let grains = len.div_ceil(grain);
        self.run(&|thread| {
            let at = |thread: usize| (grains * thread / threads * grain).min(len);
            let range = at(thread)..at(thread + 1);
            if !range.is_empty() {
                job(range);
            }
        });
    }

    #[expect(unsafe_code, reason = "erases the lifetime of the job")]
    fn publish(&self, job: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes; `run` does not return before every worker is done with the pointer.
        let job: *const Job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Job>(job) };
        // SAFETY: `run` holds the turn and waited for `running == 0`, so no worker reads the slot now.
        unsafe { *self.shared.job.0.get() = Some(job) };
        self.shared.running.store(self.workers.len(), Ordering::Relaxed);
        // Sequentially consistent with `parked`: either the worker sees the new epoch or we see it parked.
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for (parked, thread) in self.shared.parked.iter().zip(&self.sleepers) {
            if parked.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for thread in &self.sleepers {
            thread.unpark();
        }
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its jobs; there is nothing to report from its end.
            drop(worker.join());
        }
    }
}

fn wait_for_workers(shared: &Shared) {
    let mut spins = 0;
    while shared.running.load(Ordering::Acquire) != 0 {
        std::hint::spin_loop();
        spins += 1;
        // A worker that lost its core to another process needs ours.
        if spins > SPINS {
            std::thread::yield_now();
        }
    }
}

#[expect(unsafe_code, reason = "runs the borrowed job")]
fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        seen = wait_for_change(shared, index, seen);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        // SAFETY: the epoch changed, so the slot holds the present job, which lives until `running` reaches 0.
        let job = unsafe { (*shared.job.0.get()).map(|job| &*job) };
        let outcome = catch_unwind(AssertUnwindSafe(|| job.map(|job| job(index))));
        if outcome.is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.running.fetch_sub(1, Ordering::Release);
    }
}

fn wait_for_change(shared: &Shared, index: usize, seen: usize) -> usize {
    for _ in 0..SPINS {
        let epoch = shared.epoch.load(Ordering::Acquire);
        if epoch != seen {
            return epoch;
        }
        std::hint::spin_loop();
    }
    let parked = &shared.parked[index - 1];
    parked.store(true, Ordering::SeqCst);
    let epoch = loop {
        let epoch = shared.epoch.load(Ordering::SeqCst);
        if epoch != seen {
            break epoch;
        }
        std::thread::park();
    };
    parked.store(false, Ordering::SeqCst);
    epoch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_every_job_once() {
        for threads in [1, 2, 5] {
            let pool = ThreadPool::new(threads).unwrap();
            let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..200 {
                pool.run(&|thread| {
                    counts[thread].fetch_add(1, Ordering::Relaxed);
                });
            }
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 200));
        }
    }

    #[test]
    fn split_covers_the_range_without_overlap() {
        let pool = ThreadPool::new(3).unwrap();
        for (len, grain) in [(0, 1), (1, 1), (7, 2), (100, 8), (100, 64), (5, 100)] {
            let hits: Vec<AtomicUsize> = (0..len).map(|_| AtomicUsize::new(0)).collect();
            pool.split(len, grain, |range| {
                for i in range {
                    hits[i].fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1), "{len} {grain}");
        }
    }

    #[test]
    fn sleeping_workers_wake_up() {
        let pool = ThreadPool::new(2).unwrap();
        let count = AtomicUsize::new(0);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            pool.run(&|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(count.load(Ordering::Relaxed), 6);
    }

    #[test]
    fn a_panic_comes_out_and_the_pool_lives_on() {
        let pool = ThreadPool::new(2).unwrap();
        for bad in 0..2 {
            let run = || pool.run(&|thread| assert_ne!(thread, bad, "planted"));
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        }
        pool.run(&|_| {});
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = ThreadPool::new(2).unwrap();
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.run(&|_| {
                            count.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 800);
    }

    #[test]
    fn no_threads_is_an_error() {
        assert!(matches!(ThreadPool::new(0), Err(Error::ThreadCount { got: 0, .. })));
    }
}
