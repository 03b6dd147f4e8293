//! Counts of small blocks, kept by each thread and added up when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::size_class::COUNT;

/// Blocks of each class that a thread took and gave back since it started. One thread writes, any may read.
#[derive(Debug)]
pub(super) struct Tally {
    taken: [AtomicU64; COUNT],
    reused: [AtomicU64; COUNT],
    given: [AtomicU64; COUNT],
}

impl Tally {
    pub(super) fn taken(&self, class: usize, reused: bool) {
        increment(&self.taken[class]);
        if reused {
            increment(&self.reused[class]);
        }
    }

    pub(super) fn given(&self, class: usize) {
        increment(&self.given[class]);
    }
}

impl Default for Tally {
    fn default() -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self { taken: zeros(), reused: zeros(), given: zeros() }
    }
}

/// Without the locked instruction of an addition that several threads may do.
fn increment(count: &AtomicU64) {
    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Blocks of one class.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ClassCount {
    taken: u64,
    given: u64,
    /// Served from what a thread had kept.
    pub(super) reused: u64,
}

impl ClassCount {
    /// Blocks in use. Threads are not stopped to be asked: one that gives back what another took may be seen first.
    pub(super) fn live(self) -> u64 {
        self.taken.saturating_sub(self.given)
    }

    fn add(&mut self, tally: &Tally, class: usize) {
        self.taken += tally.taken[class].load(Ordering::Relaxed);
        self.given += tally.given[class].load(Ordering::Relaxed);
        self.reused += tally.reused[class].load(Ordering::Relaxed);
    }
}

/// The tallies of all threads.
#[derive(Debug)]
pub(super) struct Tallies(Mutex<(Vec<Arc<Tally>>, [ClassCount; COUNT])>);

impl Tallies {
    pub(super) fn new() -> Self {
        Self(Mutex::new((Vec::new(), [ClassCount::default(); COUNT])))
    }

    /// Of a thread that begins to use the pool.
    pub(super) fn add(&self) -> Arc<Tally> {
        let tally = Arc::<Tally>::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.push(Arc::clone(&tally));
        tally
    }

    /// Of a thread that ends.
    pub(super) fn retire(&self, tally: &Arc<Tally>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (tallies, past) = &mut *all;
        tallies.retain(|other| !Arc::ptr_eq(other, tally));
        past.iter_mut().enumerate().for_each(|(class, count)| count.add(tally, class));
    }

    /// Counts where there is no thread's tally, since the thread is about to end.
    pub(super) fn count(&self, change: impl FnOnce(&Tally)) {
        let tally = self.add();
        change(&tally);
        self.retire(&tally);
    }

    /// Of all threads, those that have ended among them.
    pub(super) fn sum(&self) -> [ClassCount; COUNT] {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = all.1;
        for tally in &all.0 {
            sum.iter_mut().enumerate().for_each(|(class, count)| count.add(tally, class));
        }
        sum
    }
}
