//! Memory that is given back and taken again, since new pages cost more than what is computed in them.
//!
//! The system looks for a new page when it is first written, and zeroes it, which takes several times as long as to write
//! it. A general allocator unmaps large blocks as soon as they are freed, so that every activation of every step pays for
//! its pages anew. This pool keeps them. By the length of a block:
//!
//! - **Small**, up to 64 KiB: size classes, from the system's allocator. Each thread keeps what it is given
//!   back, up to 1 MiB, and gives it up when it ends.
//! - **Spans**, up to 16 MiB: cut from regions of 4 to 64 MiB, the shortest free stretch first, and joined
//!   with their free neighbours when they come back.
//! - **Large**: mappings of their own, which wait for a block that is shorter by at most a quarter.
//! - **Pages**, zeroed blocks from 1 MiB: always new mappings, since only those are zero without having been written, and
//!   take no memory before they are; they go back to the system. Weights and key-value caches are such.
//!
//! What is held beyond twice what was in use lately goes back to the system when it is free, and all that is free does
//! before a limit is hit.
//! Threads share one lock for spans and larger blocks. Every block starts at a cache line, and all of its bytes are
//! initialised: what [`HybridMemoryPool::uncleared`] gives is zeros or old elements, never what no program wrote.

mod block;
mod mapping;
mod pool_vec;
mod pressure;
mod regions;
mod shared;
mod size_class;
mod spans;
mod statistics;
mod stretch;
mod system_block;
mod tally;
mod thread_cache;

#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use bytemuck::Pod;

pub use pool_vec::PoolVec;
pub use pressure::{MemoryPressure, PressureListener};
use shared::Shared;
pub use statistics::{BlockClass, ClassStats, LiveBlocks, MemoryStats};

use crate::Result;

static GLOBAL: LazyLock<HybridMemoryPool> =
    LazyLock::new(|| HybridMemoryPool { shared: Arc::new(Shared::new(usize::MAX, true)) });

/// A pool of memory. Clones are the same pool; blocks keep theirs alive.
#[derive(Debug, Clone)]
pub struct HybridMemoryPool {
    shared: Arc<Shared>,
}

/// What an observer of a pool is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryEvent {
    /// A block begins to be used.
    Taken {
        /// Where it starts.
        address: usize,
        /// How long it is.
        bytes: usize,
    },
    /// A block is no longer used.
    Given {
        /// Where it starts.
        address: usize,
    },
}

impl HybridMemoryPool {
    /// The pool of the process, which tensors use.
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    /// A pool of its own, which holds no more than `limit` bytes at once.
    pub fn new(limit: Option<usize>) -> Self {
        Self { shared: Arc::new(Shared::new(limit.unwrap_or(usize::MAX), false)) }
    }

    /// Zeros. From 1 MiB they take memory page by page as they are written, and go back to the system when dropped.
    ///
    /// Errors: [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::MemoryLimit`](crate::Error::MemoryLimit).
    pub fn zeroed<T: Pod>(&self, len: usize) -> Result<PoolVec<T>> {
        PoolVec::zeroed(self, len)
    }

    /// Elements of any value, zeros or what was there before, for who writes them all. Errors: as [`Self::zeroed`].
    pub fn uncleared<T: Pod>(&self, len: usize) -> Result<PoolVec<T>> {
        PoolVec::uncleared(self, len)
    }

    /// Zeros from the start of a page, in huge pages where the system allows them. They take memory as they are written,
    /// 2 MiB at a time, and go back to the system when dropped. Errors: as [`Self::zeroed`].
    pub fn pages<T: Pod>(&self, len: usize) -> Result<PoolVec<T>> {
        PoolVec::pages(self, len)
    }

    /// Changes how many bytes the pool may hold at once, without a limit for `None`. What is held already stays.
    pub fn set_limit(&self, limit: Option<usize>) {
        self.shared.set_limit(limit.unwrap_or(usize::MAX));
    }

    /// Calls `listener` before the pool grows to more than `allowed` bytes, on the thread that asks for more. It may take
    /// and drop blocks, and trim; nobody is called for what it takes itself.
    pub fn on_pressure(
        &self,
        allowed: usize,
        listener: impl Fn(&MemoryPressure) + Send + Sync + 'static,
    ) -> PressureListener {
        PressureListener::new(&self.shared, allowed, Arc::new(listener))
    }

    /// Gives free memory back to the system and says how many bytes. Small blocks that other threads keep stay theirs.
    pub fn trim(&self) -> usize {
        self.shared.trim()
    }

    /// What is held and in use. While other threads use the pool, the counts are of slightly different moments.
    pub fn stats(&self) -> MemoryStats {
        self.shared.stats()
    }

    /// What is in use now, by size: the leaks of a program that should be done.
    pub fn live_blocks(&self) -> LiveBlocks {
        self.shared.live_blocks()
    }

    /// Tells `observer` of every block from now on, to record a trace. There is one for the life of a pool: returns
    /// whether it is this one.
    pub fn observe(&self, observer: impl Fn(MemoryEvent) + Send + Sync + 'static) -> bool {
        self.shared.observer.set(Box::new(observer)).is_ok()
    }
}
