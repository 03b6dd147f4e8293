//! What the handles of a pool, its blocks and the threads' caches share.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::MemoryEvent;
use super::block::Memory;
use super::mapping::Mapping;
use super::pressure::Listeners;
use super::regions::Span;
use super::size_class::{self, COUNT};
use super::spans::{Kind, Spans};
use super::statistics::{BlockClass, ClassStats, LiveBlocks, MemoryStats};
use super::stretch::{Stretch, Stretches};
use super::system_block::SystemBlock;
use super::tally::Tallies;
use super::thread_cache;
use crate::{Error, Result};

type Observer = Box<dyn Fn(MemoryEvent) + Send + Sync>;

/// A pool.
pub(super) struct Shared {
    /// Whether it is the pool of the process.
    pub(super) is_global: bool,
    spans: Mutex<Spans>,
    /// Blocks held of each class.
    small_held: [AtomicUsize; COUNT],
    pub(super) tallies: Tallies,
    /// Bytes of large blocks that are live, and of small ones that are held: taking a small block that a thread has kept
    /// touches nothing that other threads do.
    in_use: AtomicUsize,
    peak: AtomicUsize,
    held: AtomicUsize,
    returned: AtomicUsize,
    limit: AtomicUsize,
    pub(super) listeners: Listeners,
    pub(super) observer: OnceLock<Observer>,
}

impl Shared {
    pub(super) fn new(limit: usize, is_global: bool) -> Self {
        let zero = || AtomicUsize::new(0);
        Self {
            is_global,
            spans: Mutex::default(),
            small_held: std::array::from_fn(|_| zero()),
            tallies: Tallies::new(),
            in_use: zero(),
            peak: zero(),
            held: zero(),
            returned: zero(),
            limit: AtomicUsize::new(limit),
            listeners: Listeners::new(),
            observer: OnceLock::new(),
        }
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// A small block, and whether it may have been written.
    pub(super) fn take_small(self: &Arc<Self>, class: usize) -> Result<(SystemBlock, bool)> {
        if let Some(block) = thread_cache::with(self, |cache| cache.take(class)).flatten() {
            return Ok((block, true));
        }
        let size = size_class::size(class);
        self.warn(size);
        let block = self.grow(size, size, || SystemBlock::zeroed(class))?;
        self.small_held[class].fetch_add(1, Ordering::Relaxed);
        self.count_in_use(size);
        let counted = thread_cache::with(self, |cache| cache.count_fresh(class));
        if counted.is_none() {
            self.tallies.count(|tally| tally.taken(class, false));
        }
        Ok((block, false))
    }

    /// A block longer than small ones; what is written of it is of no account.
    pub(super) fn take_reused(self: &Arc<Self>, len: usize) -> Result<Memory> {
        let block_len = Spans::block_len(len).ok_or(Error::OutOfMemory { bytes: len })?;
        let memory = if block_len <= super::spans::LARGEST {
            Memory::Span(self.take_span(block_len, len)?)
        } else {
            Memory::Large(self.take_large(block_len, len)?)
        };
        self.count_in_use(memory.len());
        Ok(memory)
    }

    fn take_span(self: &Arc<Self>, block_len: usize, len: usize) -> Result<Span> {
        let (found, region_len) = {
            let mut spans = self.spans();
            (spans.take_span(block_len), spans.region_len(block_len))
        };
        if let Some(span) = found {
            return Ok(span);
        }
        if self.warn(region_len)
            && let Some(span) = self.spans().take_span(block_len)
        {
            return Ok(span);
        }
        // Near a limit there may be room for the block, if not for more.
        let region = |bytes| self.grow(bytes, len, || Mapping::zeroed(bytes, true));
        let region = region(region_len).or_else(|_| region(block_len))?;
        Ok(self.spans().take_span_of(region, block_len))
    }

    fn take_large(self: &Arc<Self>, block_len: usize, len: usize) -> Result<Mapping> {
        let found = self.spans().take_waiting(block_len);
        if let Some(mapping) = found {
            return Ok(mapping);
        }
        if self.warn(block_len)
            && let Some(mapping) = self.spans().take_waiting(block_len)
        {
            return Ok(mapping);
        }
        let mapping = self.grow(block_len, len, || Mapping::zeroed(block_len, true))?;
        self.spans().count_mapped(Kind::Large, mapping.len());
        Ok(mapping)
    }

    /// Zeroed pages that nobody has had before.
    pub(super) fn take_pages(self: &Arc<Self>, len: usize, huge: bool) -> Result<Stretch> {
        let block_len = Stretches::block_len(len);
        self.warn(block_len);
        let stretch = self.grow(block_len, len, || self.spans().take_stretch(block_len, huge))?;
        self.count_in_use(stretch.len());
        Ok(stretch)
    }

    /// Takes a block back.
    pub(super) fn give(self: &Arc<Self>, memory: Memory) {
        let len = memory.len();
        let surplus = match memory {
            Memory::Empty => return,
            Memory::Small(block) => return self.give_small(block),
            Memory::Span(span) => self.spans().give_span(span),
            Memory::Large(mapping) => self.spans().give_waiting(mapping),
            Memory::Pages(stretch) => {
                drop(stretch);
                self.spans().count_given_pages(len);
                self.count_returned(len);
                Vec::new()
            }
        };
        self.in_use.fetch_sub(len, Ordering::Relaxed);
        self.unmap_all(surplus);
    }

    fn give_small(self: &Arc<Self>, block: SystemBlock) {
        let class = block.class();
        let mut block = Some(block);
        let surplus = thread_cache::with(self, |cache| block.take().map(|block| cache.give(block))).flatten();
        self.release_all(surplus.unwrap_or_default());
        // Where the thread has no cache any more the block is still here.
        if let Some(block) = block {
            self.tallies.count(|tally| tally.given(class));
            self.release_all(vec![block]);
        }
    }

    /// Gives small blocks back to the system.
    pub(super) fn release_all(&self, blocks: Vec<SystemBlock>) {
        for block in blocks {
            let class = block.class();
            drop(block);
            self.small_held[class].fetch_sub(1, Ordering::Relaxed);
            self.in_use.fetch_sub(size_class::size(class), Ordering::Relaxed);
            self.count_returned(size_class::size(class));
        }
    }

    /// Gives what is free back to the system, as far as this thread can: other threads keep their small blocks.
    pub(super) fn trim(self: &Arc<Self>) -> usize {
        let before = self.returned.load(Ordering::Relaxed);
        let small = thread_cache::with(self, thread_cache::ThreadCache::empty).unwrap_or_default();
        self.release_all(small);
        let mappings = self.spans().free_mappings();
        self.unmap_all(mappings);
        self.returned.load(Ordering::Relaxed) - before
    }

    fn unmap_all(&self, mappings: Vec<Mapping>) {
        for mapping in mappings {
            let len = mapping.len();
            drop(mapping);
            self.count_returned(len);
        }
    }

    /// Calls who wants to know that the pool is about to grow; says whether anybody was.
    fn warn(&self, bytes: usize) -> bool {
        self.listeners.call(self.held.load(Ordering::Relaxed), bytes)
    }

    /// `bytes` more from the system, by way of `ask`, for a block of `wanted`.
    fn grow<T>(self: &Arc<Self>, bytes: usize, wanted: usize, ask: impl Fn() -> Option<T>) -> Result<T> {
        self.reserve(bytes).or_else(|_| {
            self.trim();
            self.reserve(bytes)
        })?;
        let asked = ask().or_else(|| {
            self.trim();
            ask()
        });
        asked.ok_or_else(|| {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            Error::OutOfMemory { bytes: wanted }
        })
    }

    fn reserve(&self, bytes: usize) -> Result<()> {
        let limit = self.limit.load(Ordering::Relaxed);
        let grown = |held: usize| held.checked_add(bytes).filter(|held| *held <= limit);
        match self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown) {
            Ok(_) => Ok(()),
            Err(held) => Err(Error::MemoryLimit { bytes, held, limit }),
        }
    }

    fn count_in_use(&self, bytes: usize) {
        let in_use = self.in_use.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(in_use, Ordering::Relaxed);
    }

    fn count_returned(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.returned.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> MemoryStats {
        let classes = self.classes();
        MemoryStats {
            live_bytes: classes.iter().map(|class| class.live_bytes).sum(),
            peak_bytes: self.peak.load(Ordering::Relaxed),
            held_bytes: self.held.load(Ordering::Relaxed),
            reused_blocks: classes.iter().map(|class| class.reused_blocks).sum(),
            returned_bytes: self.returned.load(Ordering::Relaxed),
            classes: classes
                .into_iter()
                .filter(|class| class.held_bytes > 0 || class.reused_blocks > 0)
                .collect(),
        }
    }

    fn classes(&self) -> Vec<ClassStats> {
        let small = self.tallies.sum().into_iter().enumerate().map(|(class, count)| {
            let bytes = size_class::size(class);
            ClassStats {
                class: BlockClass::Small { bytes },
                live_blocks: count.live(),
                live_bytes: count.live() as usize * bytes,
                held_bytes: self.small_held[class].load(Ordering::Relaxed) * bytes,
                reused_blocks: count.reused,
            }
        });
        let kinds = [BlockClass::Spans, BlockClass::Large, BlockClass::Pages];
        let large = kinds.into_iter().zip(self.spans().counts()).map(|(class, count)| ClassStats {
            class,
            live_blocks: count.live_blocks,
            live_bytes: count.live_bytes,
            held_bytes: count.held_bytes,
            reused_blocks: count.reused_blocks,
        });
        small.chain(large).collect()
    }

    pub(super) fn live_blocks(&self) -> LiveBlocks {
        let counts = self.tallies.sum().map(super::tally::ClassCount::live);
        let small = counts.into_iter().enumerate().map(|(class, count)| (size_class::size(class), count));
        let spans = self.spans();
        let large = spans.live().iter().map(|(&bytes, &count)| (bytes, count));
        LiveBlocks(small.chain(large).filter(|(_, count)| *count > 0).collect())
    }

    fn spans(&self) -> MutexGuard<'_, Spans> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.stats()).finish()
    }
}
