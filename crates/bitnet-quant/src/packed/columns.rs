//! Columns one after another: see `kernel/sparse_columns.rs`.

use std::ops::Range;

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
