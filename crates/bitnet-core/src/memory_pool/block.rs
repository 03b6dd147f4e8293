//! A block of memory in use.

use std::ptr::NonNull;
use std::sync::Arc;

use super::mapping::Mapping;
use super::regions::Span;
use super::shared::Shared;
use super::size_class;
use super::stretch::Stretch;
use super::system_block::SystemBlock;
use super::{HybridMemoryPool, MemoryEvent, spans};
use crate::Result;

/// Where the memory of a block comes from.
#[derive(Debug)]
pub(super) enum Memory {
    Empty,
    Small(SystemBlock),
    Span(Span),
    Large(Mapping),
    Pages(Stretch),
}

impl Memory {
    /// Bytes of the block.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Small(block) => size_class::size(block.class()),
            Self::Span(span) => span.len,
            Self::Large(mapping) => mapping.len(),
            Self::Pages(stretch) => stretch.len(),
        }
    }

    fn start(&self) -> NonNull<u8> {
        match self {
            Self::Empty => NonNull::<Line>::dangling().cast(),
            Self::Small(block) => block.start(),
            Self::Span(span) => span.start,
            Self::Large(mapping) => mapping.start(),
            Self::Pages(stretch) => stretch.start(),
        }
    }
}

/// What every block is aligned for.
#[repr(align(64))]
struct Line;

const _: () = assert!(align_of::<Line>() == size_class::LINE);

/// Bytes that one owner reads and writes, and that go back to their pool. All are initialised: the system gives zeros, and
/// nothing but plain data is ever stored.
#[derive(Debug)]
pub(super) struct Block {
    start: NonNull<u8>,
    memory: Memory,
    /// The pool; that of the process is not counted.
    home: Option<Arc<Shared>>,
}

#[expect(unsafe_code, reason = "owns memory by pointer")]
// SAFETY: it owns its memory as a boxed slice does.
unsafe impl Send for Block {}
#[expect(unsafe_code, reason = "see Send")]
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    /// At least `len` bytes, of any content.
    pub(super) fn uncleared(pool: &HybridMemoryPool, len: usize) -> Result<Self> {
        Ok(Self::take(pool, len)?.0)
    }

    /// At least `len` bytes, zeros up to there.
    pub(super) fn zeroed(pool: &HybridMemoryPool, len: usize) -> Result<Self> {
        if len >= spans::LAZY {
            return Self::pages(pool, len, false);
        }
        let (mut block, dirty) = Self::take(pool, len)?;
        block.as_mut_slice()[..dirty.min(len)].fill(0);
        Ok(block)
    }

    /// At least `len` bytes from the start of a page, zeros that take no memory before they are written.
    pub(super) fn pages(pool: &HybridMemoryPool, len: usize, huge: bool) -> Result<Self> {
        Ok(Self::new(pool, Memory::Pages(pool.shared.take_pages(len, huge)?)))
    }

    /// At least `len` bytes, and how many at the front may have been written.
    fn take(pool: &HybridMemoryPool, len: usize) -> Result<(Self, usize)> {
        let (memory, dirty) = if len == 0 {
            (Memory::Empty, 0)
        } else if len <= size_class::LARGEST {
            let (block, is_dirty) = pool.shared.take_small(size_class::of(len))?;
            (Memory::Small(block), if is_dirty { len } else { 0 })
        } else {
            let memory = pool.shared.take_reused(len)?;
            let dirty = if let Memory::Span(span) = &memory { span.dirty } else { len };
            (memory, dirty)
        };
        Ok((Self::new(pool, memory), dirty))
    }

    fn new(pool: &HybridMemoryPool, memory: Memory) -> Self {
        let home = (!pool.shared.is_global).then(|| Arc::clone(&pool.shared));
        let block = Self { start: memory.start(), memory, home };
        if let Some(observer) = pool.shared.observer.get() {
            observer(MemoryEvent::Taken { address: block.start.as_ptr() as usize, bytes: block.len() });
        }
        block
    }

    /// Bytes of the block, no less than asked for.
    pub(super) fn len(&self) -> usize {
        self.memory.len()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        #[expect(unsafe_code, reason = "owns memory by pointer")]
        // SAFETY: the memory is this long, initialised, and of this block alone; nobody writes while `self` is shared.
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr(), self.len())
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        #[expect(unsafe_code, reason = "owns memory by pointer")]
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len())
        }
    }

    /// The pool that it came from, and a block that grows comes from.
    pub(super) fn pool(&self) -> HybridMemoryPool {
        match &self.home {
            None => HybridMemoryPool::global().clone(),
            Some(home) => HybridMemoryPool { shared: Arc::clone(home) },
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let memory = std::mem::replace(&mut self.memory, Memory::Empty);
        let shared = self.home.as_ref().unwrap_or_else(|| &HybridMemoryPool::global().shared);
        if let Some(observer) = shared.observer.get() {
            observer(MemoryEvent::Given { address: self.start.as_ptr() as usize });
        }
        shared.give(memory);
    }
}
