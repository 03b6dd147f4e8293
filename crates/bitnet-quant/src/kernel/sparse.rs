//! Products of one token with some rows, or some columns, on the threads of a pool.

use std::ops::Range;

use bitnet_core::{DisjointSlice, ThreadPool};

use super::finish::{Finish, Sums};
use super::{LANES, TernaryKernel};
use crate::packing::LINE;
use crate::{Order, PackedMatrix, Packing, QuantizedToken, Result};

/// Pieces of a list of columns per thread: enough for the others to take over what one does not get to.
const PIECES_PER_THREAD: usize = 2;
/// Columns below which a piece is not worth its own sums.
const MIN_COLUMNS: usize = 64;

/// Buffers of [`TernaryKernel::column_product`], allocated once.
#[derive(Debug, Clone, Default)]
pub struct SparseScratch {
    /// For each piece, the sums of the kernel and then those of the rows.
    pieces: Vec<i32>,
}

impl SparseScratch {
    /// Room for a matrix of `rows` rows on a pool of `threads`.
    pub fn new(rows: usize, threads: usize) -> Self {
        Self { pieces: vec![0; threads * PIECES_PER_THREAD * (kernel_sums(rows) + rows)] }
    }
}

/// The most sums that `sparse_columns.rs` keeps for a column of `rows` rows, in either packing.
fn kernel_sums(rows: usize) -> usize {
    let sums =
        |packing: Packing, per_digit: usize| rows.div_ceil(LINE * packing.digits()) * 4 * per_digit * LANES;
    sums(Packing::Bits2, 4).max(sums(Packing::Base3, 6))
}

impl TernaryKernel {
    /// The products `W_q[rows[i]] . x_q * weight_scale / activation_scale` with one token; other rows are not read.
    /// `emit(range, products)` gets every piece of the list once, on any thread.
    ///
    /// Errors: [`Error::Length`](crate::Error::Length) when columns do not fit.
    #[expect(unsafe_code, reason = "calls code compiled for an instruction set")]
    pub fn row_product(
        &self,
        pool: &ThreadPool,
        w: &PackedMatrix,
        x: QuantizedToken<'_>,
        rows: &[u32],
        emit: impl Fn(Range<usize>, &mut [f32]) + Sync,
    ) -> Result<()> {
        /// Rows whose sums are held at a time.
        const ROWS: usize = 32;
        assert_eq!(w.order(), Order::Rows, "rows are contiguous");
        self.check_sparse(w, x)?;
        let (kernels, is_centred) = self.one_token(w.packing());
        let offsets = if is_centred { &[0] } else { std::slice::from_ref(x.sum) };
        pool.split(rows.len(), ROWS, |range| {
            let (mut sums, mut products) = ([0; ROWS], [0.0; ROWS]);
            for start in range.clone().step_by(ROWS) {
                let count = ROWS.min(range.end - start);
                let (sums, products) = (&mut sums[..count], &mut products[..count]);
                // SAFETY: `new` found the instruction set on this CPU.
                unsafe { (kernels.rows)(w, &rows[start..], x.codes, sums) };
                let sums = Sums { rows: 0..count, values: sums, stride: ROWS, offsets };
                let out = DisjointSlice::new(products);
                // SAFETY: as above.
                unsafe { (self.table.finish)(&sums, &Finish::one_token(w, x, &out, count)) };
                emit(start..start + count, products);
            }
        });
        Ok(())
    }

    /// `out = W_q . x_q * weight_scale / activation_scale` for one token, of which only `columns` are not 0; other columns
    /// are not read.
    ///
    /// Errors: [`Error::Length`](crate::Error::Length) when columns or output do not fit.
    #[expect(unsafe_code, reason = "threads write disjoint sums; calls code compiled for an instruction set")]
    pub fn column_product(
        &self,
        pool: &ThreadPool,
        w: &PackedMatrix,
        x: QuantizedToken<'_>,
        columns: &[u32],
        scratch: &mut SparseScratch,
        out: &mut [f32],
    ) -> Result<()> {
        assert_eq!(w.order(), Order::Columns, "columns are contiguous");
        self.check_sparse(w, x)?;
        super::check_len("output", w.rows(), out.len())?;
        let (kernels, is_centred) = self.one_token(w.packing());
        let piece_len = kernel_sums(w.rows()) + w.rows();
        let most = (pool.threads() * PIECES_PER_THREAD).min(scratch.pieces.len() / piece_len);
        let per_piece = columns.len().div_ceil(most.max(1)).max(MIN_COLUMNS).next_multiple_of(16);
        let pieces = columns.len().div_ceil(per_piece);
        let shared = DisjointSlice::new(&mut scratch.pieces);
        pool.split(pieces, 1, |range| {
            for piece in range {
                // SAFETY: each piece has its own part.
                let part = unsafe { shared.part(piece * piece_len..(piece + 1) * piece_len) };
                let (sums, rows) = part.split_at_mut(kernel_sums(w.rows()));
                rows.fill(0);
                let columns = &columns[piece * per_piece..((piece + 1) * per_piece).min(columns.len())];
                // SAFETY: `new` found the instruction set on this CPU.
                unsafe { (kernels.columns)(w, columns, x.codes, sums, rows) };
            }
        });
        let mut parts =
            scratch.pieces.chunks_exact_mut(piece_len).map(|part| &mut part[kernel_sums(w.rows())..]);
        let Some(total) = parts.next().filter(|_| pieces > 0) else {
            out.fill(0.0);
            return Ok(());
        };
        for part in parts.take(pieces - 1) {
            total.iter_mut().zip(part).for_each(|(total, sum)| *total += *sum);
        }
        let offsets = if is_centred { &[0] } else { std::slice::from_ref(x.sum) };
        let rows = w.rows();
        let out = DisjointSlice::new(out);
        let sums = Sums { rows: 0..rows, values: total, stride: rows, offsets };
        // SAFETY: as above.
        unsafe { (self.table.finish)(&sums, &Finish::one_token(w, x, &out, rows)) };
        Ok(())
    }

    fn check_sparse(&self, w: &PackedMatrix, x: QuantizedToken<'_>) -> Result<()> {
        self.check_packing(w)?;
        super::check_cols(w.cols(), x.cols)
    }
}
