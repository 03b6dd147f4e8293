//! The one strided iterator: several operands of one shape, walked together in row-major order.
//!
//! Dimensions that lie behind each other in all operands become one, so that what is contiguous is a single run. The
//! caller gets runs along the innermost dimension and loops over them itself.

use std::ops::Range;

/// A way through `N` operands of one shape.
pub(super) struct Walk<const N: usize> {
    /// The dimensions but the innermost.
    outer: Vec<(usize, [isize; N])>,
    pub(super) inner_len: usize,
    /// Strides within a run.
    pub(super) inner: [isize; N],
    start: [isize; N],
}

impl<const N: usize> Walk<N> {
    /// Operands as strides and offset; their elements must exist.
    pub(super) fn new(dims: &[usize], operands: [(&[isize], usize); N]) -> Self {
        let mut merged: Vec<(usize, [isize; N])> = Vec::with_capacity(dims.len());
        for (axis, &dim) in dims.iter().enumerate().filter(|(_, dim)| **dim != 1) {
            let strides = operands.map(|(strides, _)| strides[axis]);
            match merged.last_mut() {
                Some((outer_dim, outer))
                    if *outer == strides.map(|stride| stride.wrapping_mul(dim as isize)) =>
                {
                    *outer_dim *= dim;
                    *outer = strides;
                }
                _ => merged.push((dim, strides)),
            }
        }
        let (inner_len, inner) = merged.pop().unwrap_or((1, [1; N]));
        Self { outer: merged, inner_len, inner, start: operands.map(|(_, offset)| offset as isize) }
    }

    /// Calls `run(at, offsets, len)` for runs that make up `range` of the elements: number `at` of the walk is element
    /// `offsets[n]` of operand `n`, and `len` of them follow at the strides `inner`. Not generic over `run`: compiled once,
    /// not for each operation of each type.
    pub(super) fn runs(&self, range: Range<usize>, run: &mut dyn FnMut(usize, [usize; N], usize)) {
        if range.is_empty() {
            return;
        }
        let mut index = vec![0; self.outer.len()];
        let (mut row, mut position) = (range.start / self.inner_len, range.start % self.inner_len);
        let mut offsets = self.start;
        for (place, (dim, strides)) in index.iter_mut().zip(&self.outer).rev() {
            *place = row % dim;
            row /= dim;
            add(&mut offsets, strides, *place as isize);
        }
        let mut at = range.start;
        loop {
            let len = (self.inner_len - position).min(range.end - at);
            let mut first = offsets;
            add(&mut first, &self.inner, position as isize);
            run(at, first.map(|offset| offset as usize), len);
            (at, position) = (at + len, 0);
            if at == range.end {
                return;
            }
            self.step(&mut index, &mut offsets);
        }
    }

    /// The next row.
    fn step(&self, index: &mut [usize], offsets: &mut [isize; N]) {
        for (place, (dim, strides)) in index.iter_mut().zip(&self.outer).rev() {
            *place += 1;
            if *place < *dim {
                return add(offsets, strides, 1);
            }
            add(offsets, strides, 1 - *dim as isize);
            *place = 0;
        }
    }
}

fn add<const N: usize>(offsets: &mut [isize; N], strides: &[isize; N], times: isize) {
    for (offset, stride) in offsets.iter_mut().zip(strides) {
        *offset += stride * times;
    }
}

/// Elements of a run, one after another.
pub(super) fn strided<T: Copy>(x: &[T], offset: usize, stride: isize, len: usize) -> impl Iterator<Item = T> {
    (0..len as isize).map(move |i| x[(offset as isize + i * stride) as usize])
}
