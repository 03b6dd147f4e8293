//! Small blocks that a thread keeps for itself, so that it takes and gives them without asking anybody.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use super::shared::Shared;
use super::size_class::{COUNT, size};
use super::system_block::SystemBlock;
use super::tally::Tally;

/// Bytes that a thread keeps at most, and blocks of one class.
const MOST_BYTES: usize = 1 << 20;
const MOST_BLOCKS: usize = 32;

thread_local! {
    /// One for each pool that the thread uses; of most threads, the pool of the process.
    static CACHES: RefCell<Vec<ThreadCache>> = const { RefCell::new(Vec::new()) };
}

/// What a thread keeps of one pool.
#[derive(Debug)]
pub(super) struct ThreadCache {
    pool: Weak<Shared>,
    bins: [Vec<SystemBlock>; COUNT],
    bytes: usize,
    tally: Arc<Tally>,
}

/// Calls `f` with what this thread keeps of `pool`; returns nothing where the thread is about to end and keeps no more.
pub(super) fn with<R>(pool: &Arc<Shared>, f: impl FnOnce(&mut ThreadCache) -> R) -> Option<R> {
    let call = |caches: &RefCell<Vec<ThreadCache>>| {
        let mut caches = caches.borrow_mut();
        let is_of = |cache: &ThreadCache| std::ptr::eq(cache.pool.as_ptr(), Arc::as_ptr(pool));
        let index = caches.iter().position(is_of).unwrap_or_else(|| {
            caches.retain(|cache| cache.pool.strong_count() > 0);
            caches.push(ThreadCache::new(pool));
            caches.len() - 1
        });
        f(&mut caches[index])
    };
    CACHES.try_with(call).ok()
}

impl ThreadCache {
    fn new(pool: &Arc<Shared>) -> Self {
        let bins = std::array::from_fn(|_| Vec::new());
        Self { pool: Arc::downgrade(pool), bins, bytes: 0, tally: pool.tallies.add() }
    }

    /// A block that was kept, counted as taken.
    pub(super) fn take(&mut self, class: usize) -> Option<SystemBlock> {
        let block = self.bins[class].pop()?;
        self.bytes -= size(class);
        self.tally.taken(class, true);
        Some(block)
    }

    /// Counts a block that the system gave.
    pub(super) fn count_fresh(&mut self, class: usize) {
        self.tally.taken(class, false);
    }

    /// Keeps a block that is given back, and returns what is too much then: the block, or blocks of other sizes, those of
    /// which most is kept first, since a thread may have gone on to this one.
    pub(super) fn give(&mut self, block: SystemBlock) -> Vec<SystemBlock> {
        let class = block.class();
        self.tally.given(class);
        let kept = self.bins[class].len();
        if kept == MOST_BLOCKS || (kept + 1) * size(class) > MOST_BYTES {
            return vec![block];
        }
        self.bytes += size(class);
        self.bins[class].push(block);
        let mut surplus = Vec::new();
        while self.bytes > MOST_BYTES {
            surplus.append(&mut self.empty_fullest_but(class));
        }
        surplus
    }

    fn empty_fullest_but(&mut self, class: usize) -> Vec<SystemBlock> {
        let others = self.bins.iter_mut().enumerate().filter(|(other, _)| *other != class);
        let fullest = others.max_by_key(|(other, bin)| bin.len() * size(*other));
        let blocks = fullest.map(|(_, bin)| std::mem::take(bin)).unwrap_or_default();
        self.bytes -= blocks.iter().map(|block| size(block.class())).sum::<usize>();
        blocks
    }

    /// Gives up what is kept.
    pub(super) fn empty(&mut self) -> Vec<SystemBlock> {
        self.bytes = 0;
        self.bins.iter_mut().flat_map(std::mem::take).collect()
    }
}

impl Drop for ThreadCache {
    fn drop(&mut self) {
        let blocks = self.empty();
        if let Some(pool) = self.pool.upgrade() {
            pool.release_all(blocks);
            pool.tallies.retire(&self.tally);
        }
    }
}
