//! Shared, immutable memory: owned or mapped, one type for both.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytemuck::Pod;
use memmap2::Mmap;

use crate::PoolVec;

/// Immutable elements shared by reference count, whoever owns the memory: a pool, a vector, a memory-mapped file, a static.
///
/// Cloning and slicing copy nothing. Every `Buffer<T>` is aligned for `T` and holds whole elements.
#[derive(Clone)]
pub struct Buffer<T = u8> {
    owner: Arc<dyn Owner + Send + Sync>,
    bytes: Range<usize>,
    element: PhantomData<T>,
}

/// Who owns the memory.
trait Owner {
    fn bytes(&self) -> &[u8];

    /// See [`Buffer::release`].
    fn release(&self, _: Range<usize>) {}
}

struct Elements<T>(Vec<T>);

impl<T: Pod> Owner for Elements<T> {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl<T: Pod> Owner for PoolVec<T> {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }
}

struct Other<T>(T);

impl<T: AsRef<[u8]>> Owner for Other<T> {
    fn bytes(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl Owner for Mmap {
    fn bytes(&self) -> &[u8] {
        self
    }

    #[cfg(unix)]
    #[expect(unsafe_code, reason = "drops pages of a mapping")]
    fn release(&self, bytes: Range<usize>) {
        // SAFETY: the mapping is of a file and never written: a dropped page is read from the file again. Advice that
        // the system does not take changes nothing.
        drop(unsafe {
            self.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, bytes.start, bytes.len())
        });
    }
}

impl Buffer<u8> {
    /// Shares the bytes of `owner`.
    pub fn from_owner(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self::of(Other(owner))
    }

    /// Shares the bytes of a mapped file.
    pub fn from_map(map: Mmap) -> Self {
        Self::of(map)
    }

    /// Reads the bytes as elements of `T`: in place when they are aligned, from a copy when they are not.
    ///
    /// Panics when the length is not a multiple of the element size: callers have checked data type and shape.
    pub fn typed<T: Pod + Send + Sync>(&self) -> Buffer<T> {
        if bytemuck::try_cast_slice::<u8, T>(self).is_ok() {
            return Buffer {
                owner: Arc::clone(&self.owner),
                bytes: self.bytes.clone(),
                element: PhantomData,
            };
        }
        assert!(self.len().is_multiple_of(size_of::<T>()), "a buffer of elements holds whole elements");
        let mut copy = vec![T::zeroed(); self.len() / size_of::<T>()];
        bytemuck::cast_slice_mut(&mut copy).copy_from_slice(self);
        copy.into()
    }
}

impl<T: Pod> Buffer<T> {
    fn of(owner: impl Owner + Send + Sync + 'static) -> Self {
        let bytes = 0..owner.bytes().len();
        Self { owner: Arc::new(owner), bytes, element: PhantomData }
    }

    /// Says that the elements will not be needed for a while. Of a mapped file the pages go back to the system, and are
    /// read again when they are needed after all; other memory stays as it is.
    pub fn release(&self) {
        self.owner.release(self.bytes.clone());
    }

    /// The bytes of the elements, sharing the memory.
    #[must_use]
    pub fn bytes(&self) -> Buffer {
        Buffer { owner: Arc::clone(&self.owner), bytes: self.bytes.clone(), element: PhantomData }
    }

    /// The elements of `range`, sharing the memory.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "slice {range:?} of {}", self.len());
        let at = |element: usize| self.bytes.start + element * size_of::<T>();
        Self { owner: Arc::clone(&self.owner), bytes: at(range.start)..at(range.end), element: PhantomData }
    }
}

impl<T: Pod + Send + Sync> From<Vec<T>> for Buffer<T> {
    fn from(elements: Vec<T>) -> Self {
        Self::of(Elements(elements))
    }
}

impl<T: Pod + Send + Sync> From<PoolVec<T>> for Buffer<T> {
    fn from(elements: PoolVec<T>) -> Self {
        Self::of(elements)
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.owner.bytes()[self.bytes.clone()])
    }
}

impl<T: Pod> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} x {} bytes)", self.len(), size_of::<T>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_share_memory() {
        let buffer = Buffer::from(vec![1_i32, 2, 3, 4]);
        let slice = buffer.slice(1..3);
        assert_eq!(&*slice, &[2, 3]);
        assert_eq!(slice.as_ptr(), buffer[1..].as_ptr());
    }

    #[test]
    fn misaligned_bytes_are_copied_aligned_ones_are_not() {
        let bytes = Buffer::from_owner(bytemuck::cast_slice::<u32, u8>(&[7, 8, 9]).to_vec());
        let whole = bytes.typed::<u8>();
        assert_eq!(whole.as_ptr(), bytes.as_ptr());
        let start = (0..4).find(|&i| !(bytes[i..].as_ptr() as usize).is_multiple_of(4)).unwrap();
        let shifted = bytes.slice(start..start + 4).typed::<u32>();
        assert_eq!(bytemuck::cast_slice::<u32, u8>(&shifted), &bytes[start..start + 4]);
        assert_ne!(shifted.as_ptr().cast::<u8>(), bytes[start..].as_ptr());
    }

    #[test]
    fn a_released_map_still_holds_its_file() {
        let path = std::env::temp_dir().join(format!("bitnet-core-release-{}", std::process::id()));
        std::fs::write(&path, vec![7; 3 << 16]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        #[expect(unsafe_code, reason = "maps a file of its own")]
        // SAFETY: nobody else writes the file.
        let buffer = Buffer::from_map(unsafe { Mmap::map(&file) }.unwrap());
        for range in [0..3 << 16, 100..70_000, 5..5] {
            buffer.slice(range).release();
            assert!(buffer.iter().all(|byte| *byte == 7));
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    #[should_panic(expected = "slice")]
    fn a_slice_beyond_the_end_panics() {
        let _ = Buffer::from(vec![1_u8, 2]).slice(1..3);
    }
}
