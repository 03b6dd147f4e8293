//! Rows one after another: see `kernel/sparse_rows.rs`.

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
