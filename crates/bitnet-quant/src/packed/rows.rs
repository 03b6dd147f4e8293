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
/// last hold anything.
///
/// The packed bytes are brought into the order of a tile first, four to a row, and taken apart then: a byte moves once for
/// all of its codes.
#[inline(always)]
pub(crate) fn unpack(
    matrix: &PackedMatrix,
    first: usize,
    lines: std::ops::Range<usize>,
    blocks: usize,
    tile: &mut [u8],
) {
    const FOURS: usize = LINE / 4;
    let (row_bytes, packing, data) = (matrix.unit_bytes(), matrix.packing, &*matrix.data);
    for (group, tile) in tile.chunks_exact_mut(blocks * LINE).enumerate() {
        let first = first + 16 * group;
        for (index, line) in lines.clone().enumerate() {
            let mut bytes = [[0; LINE]; FOURS];
            for (lane, row) in (first..matrix.rows.min(first + 16)).enumerate() {
                let line = &data[row * row_bytes + line * LINE..][..LINE];
                for (bytes, four) in bytes.iter_mut().zip(line.as_chunks::<4>().0) {
                    bytes[4 * lane..4 * lane + 4].copy_from_slice(four);
                }
            }
            for digit in 0..packing.digits() {
                let block = (index * packing.digits() + digit) * FOURS;
                let out = &mut tile[block.min(blocks) * LINE..(block + FOURS).min(blocks) * LINE];
                let pairs = out.iter_mut().zip(bytes.as_flattened());
                match packing {
                    Packing::Bits2 => {
                        pairs.for_each(|(code, byte)| *code = Packing::Bits2.decode(*byte, digit));
                    }
                    Packing::Base3 => {
                        pairs.for_each(|(code, byte)| *code = Packing::Base3.decode(*byte, digit));
                    }
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
