//! The threads that operations run on.
//!
//! A tensor has no pool of its own, and there is none for the process: threads do not survive a fork, and whoever runs
//! many operations, a trainer for one, has a pool already. It lends that to the operations of a closure.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use crate::{DisjointSlice, Result, ThreadPool};

thread_local! {
    static LENT: RefCell<Option<Arc<ThreadPool>>> = const { RefCell::new(None) };
}

/// Puts back what was lent before, also when the closure panics.
struct Restore(Option<Arc<ThreadPool>>);

impl Drop for Restore {
    fn drop(&mut self) {
        LENT.set(self.0.take());
    }
}

/// Runs `work`, whose tensor operations then use the threads of `pool`. Results do not depend on it.
pub fn with_threads<R>(pool: &Arc<ThreadPool>, work: impl FnOnce() -> R) -> R {
    let _restore = Restore(LENT.replace(Some(Arc::clone(pool))));
    work()
}

/// The threads that operations run on: those of [`with_threads`], or the calling one alone.
///
/// Errors: [`Error::ThreadSpawn`](crate::Error::ThreadSpawn).
pub fn lent_threads() -> Result<Arc<ThreadPool>> {
    match LENT.with_borrow(Clone::clone) {
        Some(pool) => Ok(pool),
        None => Ok(Arc::new(ThreadPool::new(1)?)),
    }
}

/// Splits `0..len` over the threads there are: see [`ThreadPool::split`].
pub(super) fn split(len: usize, grain: usize, job: &(dyn Fn(Range<usize>) + Sync)) {
    if len <= grain {
        if len > 0 {
            job(0..len);
        }
        return;
    }
    // Taken meanwhile: a pool runs one job at a time, and one within a job would wait for itself.
    let lent = Restore(LENT.take());
    match &lent.0 {
        Some(pool) => pool.split(len, grain, job),
        None => job(0..len),
    }
}

/// Fills `out`, whose parts `job(start, part)` computes on the threads there are; every part but the last is a multiple
/// of `grain`.
#[expect(unsafe_code, reason = "threads write disjoint parts")]
pub(super) fn fill<T: Send>(out: &mut [T], grain: usize, job: &(dyn Fn(usize, &mut [T]) + Sync)) {
    let len = out.len();
    let out = DisjointSlice::new(out);
    split(len, grain, &|range: Range<usize>| {
        let start = range.start;
        // SAFETY: the ranges of a split do not overlap.
        job(start, unsafe { out.part(range) });
    });
}

/// How many threads there are.
pub(super) fn count() -> usize {
    LENT.with_borrow(|pool| pool.as_ref().map_or(1, |pool| pool.threads()))
}
