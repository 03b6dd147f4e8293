//! Shared, immutable memory: owned or mapped, one type for both.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytemuck::Pod;

/// Immutable elements shared by reference count, whoever owns the memory: a vector, a memory-mapped file, a static.
///
/// Cloning and slicing copy nothing. Every `Buffer<T>` is aligned for `T` and holds whole elements.
#[derive(Clone)]
pub struct Buffer<T = u8> {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    bytes: Range<usize>,
    element: PhantomData<T>,
}

struct Elements<T>(Vec<T>);

impl<T: Pod> AsRef<[u8]> for Elements<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl Buffer<u8> {
    /// Shares the bytes of `owner`, such as a memory map.
    pub fn from_owner(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let bytes = 0..owner.as_ref().len();
        Self { owner: Arc::new(owner), bytes, element: PhantomData }
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
        let bytes = 0..size_of_val(elements.as_slice());
        Self { owner: Arc::new(Elements(elements)), bytes, element: PhantomData }
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&(*self.owner).as_ref()[self.bytes.clone()])
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
    #[should_panic(expected = "slice")]
    fn a_slice_beyond_the_end_panics() {
        let _ = Buffer::from(vec![1_u8, 2]).slice(1..3);
    }
}
