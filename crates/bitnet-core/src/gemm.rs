//! Products of strided float32 matrices on the calling thread, by the `matrixmultiply` crate.
//!
//! It reads any strides, and adds the products of one output in an order that follows from `k` alone: a product may be
//! cut by rows and columns, for threads or for caches, and stays the same bit for bit.

use crate::tensor::extent;

/// A float32 matrix in memory, of any strides.
#[derive(Debug, Clone, Copy)]
pub struct MatrixRef<'a> {
    elements: &'a [f32],
    first: usize,
    dims: [usize; 2],
    strides: [isize; 2],
}

impl<'a> MatrixRef<'a> {
    /// Element `i, j` is number `first + i strides[0] + j strides[1]` of `elements`.
    ///
    /// Panics when an element would lie outside.
    pub fn new(elements: &'a [f32], first: usize, dims: [usize; 2], strides: [isize; 2]) -> Self {
        let range = extent(&dims, &strides, first).filter(|range| range.end <= elements.len());
        assert!(range.is_some(), "{dims:?} by {strides:?} from {first} leaves {} elements", elements.len());
        Self { elements, first, dims, strides }
    }

    /// Row-major, without gaps. Panics unless `elements` are whole rows of `cols`.
    pub fn row_major(elements: &'a [f32], cols: usize) -> Self {
        let rows = elements.len() / cols.max(1);
        assert_eq!(rows * cols, elements.len(), "whole rows of {cols}");
        Self { elements, first: 0, dims: [rows, cols], strides: [cols as isize, 1] }
    }

    /// Rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        let ([rows, cols], [down, along]) = (self.dims, self.strides);
        Self { dims: [cols, rows], strides: [along, down], ..self }
    }

    fn start(&self) -> *const f32 {
        self.elements[self.first.min(self.elements.len())..].as_ptr()
    }
}

/// `out = a b + beta out` for `[m, k]` by `[k, n]`; `out` is row-major, and of no account where `beta` is 0.
///
/// Panics unless the sizes fit.
#[expect(unsafe_code, reason = "matrixmultiply takes pointers")]
pub fn sgemm(a: MatrixRef<'_>, b: MatrixRef<'_>, beta: f32, out: &mut [f32]) {
    let ([m, k], [b_k, n]) = (a.dims, b.dims);
    assert!(k == b_k && out.len() == m * n, "[{m}, {k}] by [{b_k}, {n}] to {} elements", out.len());
    // SAFETY: the matrices lie in their slices, as `new` has seen; `out` holds the product and is borrowed for it alone.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.start(),
            a.strides[0],
            a.strides[1],
            b.start(),
            b.strides[0],
            b.strides[1],
            beta,
            out.as_mut_ptr(),
            n as isize,
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_views_are_added_to_what_is_there() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let (a, b) = (MatrixRef::row_major(&a, 3), MatrixRef::new(&a, 1, [3, 2], [2, -1]));
        // a = [1 2 3; 4 5 6], b = [2 1; 4 3; 6 5]
        let mut out = [f32::NAN; 4];
        sgemm(a, b, 0.0, &mut out);
        assert_eq!(out, [28.0, 22.0, 64.0, 49.0]);
        sgemm(b.transposed(), a.transposed(), 1.0, &mut out);
        assert_eq!(out, [56.0, 86.0, 86.0, 98.0]);
        let none = MatrixRef::row_major(&[], 0);
        sgemm(none, none, 0.0, &mut []);
    }

    #[test]
    #[should_panic(expected = "leaves 6 elements")]
    fn a_matrix_beyond_its_memory_panics() {
        MatrixRef::new(&[0.0; 6], 1, [2, 3], [3, 1]);
    }
}
