//! Panels of `16 * digits` rows: see `kernel/dense.rs`.

use super::source::{SourceRow, ZERO, encode_columns};
use crate::TernaryMatrix;
use crate::packing::{LINE, Packing};

/// Rows of one digit of a panel.
const LANES: usize = 16;

/// Packs panel `panel` into `out`.
pub(super) fn pack(matrix: &TernaryMatrix, panel: usize, packing: Packing, out: &mut [u8]) {
    let (cols, digits) = (matrix.cols(), packing.digits());
    let mut bytes = vec![packing.encode([ZERO; 5]); cols.next_multiple_of(4)];
    for lane in 0..LANES {
        let row = |digit: usize| {
            (digit < digits)
                .then(|| SourceRow::new(matrix, (panel * digits + digit) * LANES + lane))
                .flatten()
        };
        encode_columns(std::array::from_fn(row), packing, 0, &mut bytes[..cols]);
        for (line, four) in out.chunks_exact_mut(LINE).zip(bytes.as_chunks::<4>().0) {
            line[4 * lane..][..4].copy_from_slice(four);
        }
    }
}
