//! Buffers in memory that CPU and GPU share.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use bitnet_core::Buffer;
use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_metal::{MTLBuffer, MTLDevice, MTLResourceOptions};

use crate::{Error, Memory, Result};

/// From this size on memory is wrapped in place: below, a copy costs less than a mapping of its own.
const SHARED_FROM: usize = 64 << 10;

/// A buffer of the device, or a part of one.
#[derive(Debug)]
pub struct MetalMemory {
    buffer: Retained<ProtocolObject<dyn MTLBuffer>>,
    start: usize,
    bytes: usize,
    /// What the buffer wraps, if it does not own its memory.
    wrapped: Option<Buffer>,
}

// SAFETY: Metal's buffers may be used by any thread. What they hold is written by `write`, which has the
// memory for itself, and by steps, which do not run beside reads: that is the contract of `Memory`.
unsafe impl Send for MetalMemory {}
// SAFETY: as above.
unsafe impl Sync for MetalMemory {}

impl MetalMemory {
    pub(super) fn allocate(device: &ProtocolObject<dyn MTLDevice>, bytes: usize) -> Result<Self> {
        let out_of_memory = || Error::OutOfMemory { what: format!("a buffer of {bytes} bytes") };
        if bytes > device.maxBufferLength() {
            return Err(out_of_memory());
        }
        // An empty buffer cannot be had.
        let buffer = device.newBufferWithLength_options(bytes.max(16), MTLResourceOptions::StorageModeShared);
        Ok(Self { buffer: buffer.ok_or_else(out_of_memory)?, start: 0, bytes, wrapped: None })
    }

    /// Wraps `bytes` in place where that can be done; copies them where not.
    pub(super) fn share(
        device: &ProtocolObject<dyn MTLDevice>,
        bytes: &Buffer,
        align: usize,
    ) -> Result<Self> {
        let is_aligned = (bytes.as_ptr() as usize).is_multiple_of(align);
        if is_aligned
            && bytes.len() >= SHARED_FROM
            && let Some(memory) = Self::wrap(device, bytes)
        {
            return Ok(memory);
        }
        let mut memory = Self::allocate(device, bytes.len())?;
        memory.write(0, bytes);
        Ok(memory)
    }

    /// A buffer over the pages that `bytes` lie in. Pages are mapped as a whole, so that this reads no memory
    /// that there is not; the kernels see `bytes` alone.
    fn wrap(device: &ProtocolObject<dyn MTLDevice>, bytes: &Buffer) -> Option<Self> {
        let page = page_bytes();
        let address = bytes.as_ptr() as usize;
        let start = address % page;
        let length = (start + bytes.len()).next_multiple_of(page);
        if length > device.maxBufferLength() {
            return None;
        }
        let first = NonNull::new(bytes.as_ptr().wrapping_sub(start).cast_mut().cast::<c_void>())?;
        // SAFETY: the pages are mapped for as long as `wrapped` holds them, and the device only reads them.
        let buffer = unsafe {
            let options = MTLResourceOptions::StorageModeShared;
            device.newBufferWithBytesNoCopy_length_options_deallocator(first, length, options, None)
        };
        Some(Self { buffer: buffer?, start, bytes: bytes.len(), wrapped: Some(bytes.clone()) })
    }

    pub(super) fn buffer(&self) -> &ProtocolObject<dyn MTLBuffer> {
        &self.buffer
    }

    /// Where the memory begins in its buffer.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    fn pointer(&self, at: usize, bytes: usize) -> *mut u8 {
        assert!(at + bytes <= self.bytes, "bytes {at}..{} of {}", at + bytes, self.bytes);
        self.buffer.contents().as_ptr().cast::<u8>().wrapping_add(self.start + at)
    }
}

impl Memory for MetalMemory {
    fn size_bytes(&self) -> usize {
        self.bytes
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(self.wrapped.is_none(), "shared memory is read-only");
        let to = self.pointer(at, bytes.len());
        // SAFETY: in bounds, as `pointer` has checked; the memory is borrowed for this alone.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    fn read(&self, at: usize, bytes: &mut [u8]) {
        let from = self.pointer(at, bytes.len());
        // SAFETY: in bounds, as `pointer` has checked; no step writes meanwhile, by the contract of `Memory`.
        unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(from, bytes.len()) };
    }
}

fn page_bytes() -> usize {
    unsafe extern "C" {
        safe fn getpagesize() -> c_int;
    }
    getpagesize() as usize
}
