//! Small blocks of the system's allocator.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use super::size_class;

/// A block of a size class, given back to the system when it is dropped.
#[derive(Debug)]
pub(super) struct SystemBlock {
    start: NonNull<u8>,
    class: u8,
}

impl SystemBlock {
    /// Zeros; nothing when the system has none.
    pub(super) fn zeroed(class: usize) -> Option<Self> {
        #[expect(unsafe_code, reason = "calls the allocator")]
        // SAFETY: no class has blocks of 0 bytes.
        let start = unsafe { alloc_zeroed(layout(class)) };
        Some(Self { start: NonNull::new(start)?, class: class as u8 })
    }

    /// Where it starts: at a cache line.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn class(&self) -> usize {
        self.class.into()
    }
}

impl Drop for SystemBlock {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "calls the allocator")]
        // SAFETY: allocated with this layout, and nobody else owns it.
        unsafe {
            dealloc(self.start.as_ptr(), layout(self.class()));
        }
    }
}

fn layout(class: usize) -> Layout {
    Layout::from_size_align(size_class::size(class), size_class::LINE).expect("a class is a small layout")
}
