//! Columns one after another: see `kernel/sparse_columns.rs`.

use std::ops::Range;

use super::PackedMatrix;
use super::source::{SourceRow, encode_columns};
use crate::TernaryMatrix;
use crate::packing::{LINE, Packing};

/// Columns whose bytes are gathered at a time: their lines stay in the second-level cache.
const COLUMNS_AT_ONCE: usize = 2048;

/// The row, among the 64 of a digit, that byte `at` of a line holds.
fn row_of(at: usize) -> usize {
    let (j, q, i) = (at / 16, at / 4 % 4, at % 4);
    16 * q + 4 * j + i
}

/// Packs `columns` into `out`.
pub(super) fn pack(matrix: &TernaryMatrix, columns: Range<usize>, packing: Packing, out: &mut [u8]) {
    let digits = packing.digits();
    let column_bytes = out.len() / columns.len();
    let mut bytes: [Vec<u8>; 4] = std::array::from_fn(|_| vec![0; COLUMNS_AT_ONCE.min(columns.len())]);
    for start in columns.clone().step_by(COLUMNS_AT_ONCE) {
        let count = COLUMNS_AT_ONCE.min(columns.end - start);
        let out = &mut out[(start - columns.start) * column_bytes..][..count * column_bytes];
        for line in 0..column_bytes / LINE {
            for at in (0..LINE).step_by(4) {
                for (i, bytes) in bytes.iter_mut().enumerate() {
                    let row = |digit: usize| {
                        let row = (line * digits + digit) * LINE + row_of(at + i);
                        (digit < digits).then(|| SourceRow::new(matrix, row)).flatten()
                    };
                    encode_columns(std::array::from_fn(row), packing, start, &mut bytes[..count]);
                }
                for (column, out) in out.chunks_exact_mut(column_bytes).enumerate() {
                    let four: [u8; 4] = std::array::from_fn(|i| bytes[i][column]);
                    out[line * LINE + at..][..4].copy_from_slice(&four);
                }
            }
        }
    }
}

/// The codes of 64 rows, digit `digit` of line `line`, and the four columns from `first` on, in the order of the bytes.
#[inline(always)]
pub(crate) fn unpack(matrix: &PackedMatrix, (line, digit): (usize, usize), first: usize) -> [[u8; LINE]; 4] {
    let (column_bytes, packing) = (matrix.unit_bytes(), matrix.packing);
    let mut codes = [[0; LINE]; 4];
    for (i, codes) in codes.iter_mut().enumerate() {
        // Beyond the last column the activations are 0.
        let column = (first + i).min(matrix.cols - 1);
        let bytes = &matrix.data[column * column_bytes + line * LINE..][..LINE];
        let pairs = codes.iter_mut().zip(bytes);
        match packing {
            Packing::Bits2 => pairs.for_each(|(code, byte)| *code = Packing::Bits2.decode(*byte, digit)),
            Packing::Base3 => pairs.for_each(|(code, byte)| *code = Packing::Base3.decode(*byte, digit)),
        }
    }
    codes
}
