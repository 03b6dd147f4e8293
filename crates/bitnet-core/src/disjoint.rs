//! A mutable slice that several threads write at once, each its own part.

use std::marker::PhantomData;
use std::ops::Range;

use crate::prefetch;

/// A mutable slice whose disjoint parts are handed to different threads.
///
/// The outputs of a packed matrix lie in four strided regions per thread; no safe split of the standard library
/// expresses that without an allocation per call.
#[derive(Debug)]
pub struct DisjointSlice<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

#[expect(unsafe_code, reason = "the type exists to share a mutable slice between threads")]
// SAFETY: it stands for a `&mut [T]`, which may move to another thread when `T: Send`; sharing it only lets
// threads obtain references through `part`, whose contract forbids overlap.
unsafe impl<T: Send> Sync for DisjointSlice<'_, T> {}

impl<'a, T> DisjointSlice<'a, T> {
    /// Borrows `slice` until the last part is done with.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrow: PhantomData }
    }

    /// The elements of `range`. Panics beyond the end.
    ///
    /// # Safety
    /// No other part that is alive at the same time, on any thread, may overlap `range`.
    #[expect(unsafe_code, reason = "see the contract")]
    #[expect(clippy::mut_from_ref, reason = "disjointness is the contract")]
    pub unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {}", self.len);
        // SAFETY: in bounds by the assertion; unaliased by the contract and by the borrow held in `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// Starts fetching the elements of `range`, as far as there are.
    pub fn prefetch(&self, range: Range<usize>) {
        for index in (range.start..range.end.min(self.len)).step_by(prefetch::LINE / size_of::<T>()) {
            prefetch::near(self.start.wrapping_add(index));
        }
    }

    /// Stores one element. Panics beyond the end.
    ///
    /// # Safety
    /// No other thread may access element `index` while `self` is shared.
    #[expect(unsafe_code, reason = "see the contract")]
    pub unsafe fn write(&self, index: usize, value: T)
    where
        T: Copy,
    {
        assert!(index < self.len, "element {index} of {}", self.len);
        // SAFETY: in bounds by the assertion; unaliased by the contract and by the borrow held in `self`.
        unsafe { self.start.add(index).write(value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "exercises the contract")]
    fn threads_write_their_own_parts() {
        let mut values = [0_u32; 8];
        let shared = DisjointSlice::new(&mut values);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let shared = &shared;
                scope.spawn(move || {
                    // SAFETY: each thread has two elements of its own.
                    unsafe { shared.part(thread..thread + 1)[0] = 1 };
                    // SAFETY: as above.
                    unsafe { shared.write(thread + 4, 2) };
                });
            }
        });
        assert_eq!(values, [1, 1, 1, 1, 2, 2, 2, 2]);
    }
}
