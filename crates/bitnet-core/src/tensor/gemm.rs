//! Batches of products of strided float32 matrices, cut into tiles for the threads.
//!
//! The panels of [`sgemm`] are made for many rows and columns: a single row or column goes to the dot products of
//! [`FloatKernels`], which read the matrix at the speed of memory.

use std::ops::Range;

use crate::gemm::{MatrixRef, sgemm};
use crate::{DisjointSlice, FloatKernels, Isa, Result, Tensor};

use super::threads;

/// Rows and columns of a tile, at least.
const TILE: usize = 128;
/// Rows and columns that `matrixmultiply` computes at once.
const KERNEL: usize = 8;

/// A batch of matrices in memory.
pub(super) struct Matrix<'a> {
    storage: &'a [f32],
    offset: isize,
    /// Of batch, rows and columns.
    strides: [isize; 3],
}

impl<'a> Matrix<'a> {
    /// A tensor of three dimensions, whose elements are in `storage`.
    pub(super) fn of(storage: &'a [f32], tensor: &Tensor) -> Self {
        let strides = [0, 1, 2].map(|axis| tensor.strides()[axis]);
        Self { storage, offset: tensor.storage().1 as isize, strides }
    }

    fn at(&self, batch: usize, row: usize, col: usize) -> isize {
        let [batches, rows, cols] = self.strides;
        self.offset + batch as isize * batches + row as isize * rows + col as isize * cols
    }

    /// One tile.
    fn part(&self, batch: usize, rows: Range<usize>, cols: Range<usize>) -> MatrixRef<'_> {
        let (first, [_, down, along]) = (self.at(batch, rows.start, cols.start) as usize, self.strides);
        MatrixRef::new(self.storage, first, [rows.len(), cols.len()], [down, along])
    }

    /// Elements that lie side by side.
    fn line(&self, start: isize, len: usize) -> &[f32] {
        &self.storage[start as usize..][..len]
    }
}

/// `out = a b` for `[batch, m, k]` by `[batch, k, n]`; `out` is row-major, its content of no account.
pub(super) fn gemm(a: &Matrix<'_>, b: &Matrix<'_>, sizes: [usize; 4], out: &mut [f32]) -> Result<()> {
    let [_, m, k, n] = sizes;
    if out.is_empty() || k == 0 {
        out.fill(0.0);
        return Ok(());
    }
    if m == 1 || n == 1 {
        let kernels = FloatKernels::new(Isa::selected()?)?;
        let [_, a_rows, a_cols] = a.strides;
        let [_, b_rows, b_cols] = b.strides;
        let is_line = |stride: isize| stride == 1 || k == 1;
        if is_line(a_cols) && is_line(b_rows) {
            dots(&kernels, a, b, sizes, out);
            return Ok(());
        }
        if m == 1 && b_cols == 1 {
            weighted_rows(&kernels, a, b, sizes, out);
            return Ok(());
        }
        if n == 1 && a_rows == 1 {
            let transposed = |x: &Matrix<'_>, storage| {
                let [batch, rows, cols] = x.strides;
                Matrix { storage, offset: x.offset, strides: [batch, cols, rows] }
            };
            let (a, b) = (transposed(b, b.storage), transposed(a, a.storage));
            weighted_rows(&kernels, &a, &b, [sizes[0], n, k, m], out);
            return Ok(());
        }
    }
    tiles(a, b, sizes, out);
    Ok(())
}

/// A row or a column of outputs, each a dot product of two lines.
fn dots(kernels: &FloatKernels, a: &Matrix<'_>, b: &Matrix<'_>, [_, m, k, n]: [usize; 4], out: &mut [f32]) {
    threads::fill(out, (1_usize << 14).div_ceil(k), &|start, out| {
        for (i, out) in out.iter_mut().enumerate() {
            let (batch, row, col) = ((start + i) / (m * n), (start + i) / n % m, (start + i) % n);
            *out = kernels.dot_f32(a.line(a.at(batch, row, 0), k), b.line(b.at(batch, 0, col), k));
        }
    });
}

/// One row of outputs per batch: the rows of `b`, times the elements of `a`.
fn weighted_rows(
    kernels: &FloatKernels,
    a: &Matrix<'_>,
    b: &Matrix<'_>,
    [_, _, k, n]: [usize; 4],
    out: &mut [f32],
) {
    threads::fill(out, ((1_usize << 14) / k).max(64), &|start, out| {
        let mut done = 0;
        while done < out.len() {
            let (batch, col) = ((start + done) / n, (start + done) % n);
            let len = (n - col).min(out.len() - done);
            let part = &mut out[done..done + len];
            part.fill(0.0);
            for row in 0..k {
                let weight = a.storage[a.at(batch, 0, row) as usize];
                kernels.add_scaled(part, weight, b.line(b.at(batch, row, col), len));
            }
            done += len;
        }
    });
}

/// Length of the pieces of `len` rows or columns, of which there are about `pieces`.
fn tile(len: usize, pieces: usize) -> usize {
    len.div_ceil(pieces).next_multiple_of(KERNEL).max(TILE).min(len)
}

/// Cut for the threads: by rows, and where those are few by columns. Pieces are large, since `matrixmultiply` reorders
/// the other matrix for each.
#[expect(unsafe_code, reason = "threads write disjoint tiles")]
fn tiles(a: &Matrix<'_>, b: &Matrix<'_>, [batch, m, k, n]: [usize; 4], out: &mut [f32]) {
    let threads = threads::count();
    let pieces = if threads == 1 { 1 } else { (2 * threads).div_ceil(batch) };
    let tile_rows = tile(m, pieces);
    let row_tiles = m.div_ceil(tile_rows);
    let tile_cols = tile(n, pieces.div_ceil(row_tiles));
    let col_tiles = n.div_ceil(tile_cols);
    let out = DisjointSlice::new(out);
    threads::split(batch * row_tiles * col_tiles, 1, &|units: std::ops::Range<usize>| {
        for unit in units {
            let (at, tile) = (unit / (row_tiles * col_tiles), unit % (row_tiles * col_tiles));
            let (row, col) = (tile / col_tiles * tile_rows, tile % col_tiles * tile_cols);
            let (rows, cols) = (row..(row + tile_rows).min(m), col..(col + tile_cols).min(n));
            let line = |row: usize, cols: Range<usize>| {
                (at * m + row) * n + cols.start..(at * m + row) * n + cols.end
            };
            let (a_rows, b_cols) = (a.part(at, rows.clone(), 0..k), b.part(at, 0..k, cols.clone()));
            if col_tiles == 1 {
                // SAFETY: these rows belong to this unit.
                let out = unsafe { out.part(line(rows.start, 0..0).start..line(rows.end - 1, 0..n).end) };
                sgemm(a_rows, b_cols, 0.0, out);
                continue;
            }
            let mut tile = vec![0.0; rows.len() * cols.len()];
            sgemm(a_rows, b_cols, 0.0, &mut tile);
            for (row, tile) in rows.zip(tile.chunks_exact(cols.len())) {
                // SAFETY: this part of the row belongs to this unit.
                unsafe { out.part(line(row, cols.clone())) }.copy_from_slice(tile);
            }
        }
    });
}
