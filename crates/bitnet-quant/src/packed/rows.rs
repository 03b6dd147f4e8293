//! Rows one after another: see `kernel/sparse_rows.rs`.

use super::PackedMatrix;
use super::source::{SourceRow, ZERO};
use crate::TernaryMatrix;
use crate::packing::{LINE, Packing};

/// Packs row `row` into `out`.
pub(super) fn pack(matrix: &TernaryMatrix, row: usize, packing: Packing, out: &mut [u8]) {
    let cols = matrix.cols();
    let mut codes = vec![ZERO; out.len() * packing.digits()];
    if let Some(source) = SourceRow::new(matrix, row) {
        for (col, code) in codes[..cols].iter_mut().enumerate() {
            *code = source.code(col);
        }
    }
    for (line, codes) in out.chunks_exact_mut(LINE).zip(codes.chunks_exact(LINE * packing.digits())) {
        for (at, byte) in line.iter_mut().enumerate() {
            let code = |digit: usize| codes.get(digit * LINE + at).copied().unwrap_or(ZERO);
            *byte = packing.encode(std::array::from_fn(code));
        }
    }
}

/// The codes of 64 rows from `first` on and the columns of `lines`, `[group of 16][block][64]`: a tile. Rows beyond the
/// last are left as they are.
#[inline(always)]
pub(crate) fn unpack(
    matrix: &PackedMatrix,
    first: usize,
    lines: std::ops::Range<usize>,
    blocks: usize,
    tile: &mut [u8],
) {
    let (row_bytes, packing) = (matrix.unit_bytes(), matrix.packing);
    for row in first..(first + LINE).min(matrix.rows) {
        let bytes = &matrix.data[row * row_bytes..][..row_bytes];
        for (index, line) in bytes.as_chunks::<LINE>().0[lines.clone()].iter().enumerate() {
            for digit in 0..packing.digits() {
                let mut codes = [0; LINE];
                for at in 0..LINE {
                    codes[at] = packing.decode(line[at], digit);
                }
                let block = (index * packing.digits() + digit) * LINE / 4;
                if block < blocks {
                    spread(&codes[..4 * (blocks - block).min(LINE / 4)], row - first, block, blocks, tile);
                }
            }
        }
    }
}

/// Writes the codes of one row, from block `block` on, to their places in a tile.
#[inline(always)]
pub(crate) fn spread(codes: &[u8], row: usize, block: usize, blocks: usize, tile: &mut [u8]) {
    let start = (row / 16 * blocks + block) * LINE;
    let lines = tile[start..].chunks_exact_mut(LINE);
    for (line, four) in lines.zip(codes.as_chunks::<4>().0) {
        line[row % 16 * 4..][..4].copy_from_slice(four);
    }
}
