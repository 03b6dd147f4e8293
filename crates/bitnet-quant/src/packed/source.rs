//! Rows of a checkpoint's matrix, as bytes and the place of the codes in them.

use crate::TernaryMatrix;
use crate::packing::Packing;

/// The bytes of one row of packed codes, and how far up its codes lie.
#[derive(Clone, Copy)]
pub(super) struct SourceRow<'a> {
    pub(super) bytes: &'a [u8],
    shift: usize,
}

/// A zero weight.
pub(super) const ZERO: u8 = 1;

impl<'a> SourceRow<'a> {
    /// Row `row`, or none beyond the last.
    pub(super) fn new(matrix: &'a TernaryMatrix, row: usize) -> Option<Self> {
        if row >= matrix.rows() {
            return None;
        }
        let quarter = matrix.packed_rows();
        let bytes = &matrix.packed()[row % quarter * matrix.cols()..][..matrix.cols()];
        Some(Self { bytes, shift: 2 * (row / quarter) })
    }

    #[inline(always)]
    pub(super) fn code(&self, col: usize) -> u8 {
        self.bytes[col] >> self.shift & 3
    }
}

/// `out[i]` = the codes of `rows`, one a digit, in column `first + i`. Rows that are not there hold zero weights.
pub(super) fn encode_columns(
    rows: [Option<SourceRow<'_>>; 5],
    packing: Packing,
    first: usize,
    out: &mut [u8],
) {
    let zeros = SourceRow { bytes: &[], shift: 0 };
    let present = rows.map(|row| row.is_some());
    // Digits that the packing has not are ignored by `encode`.
    if present[..packing.digits()].iter().all(|is| *is) {
        let sources = rows.map(|row| row.or(rows[0]).unwrap_or(zeros));
        let bytes = sources.map(|row| &row.bytes[first..first + out.len()]);
        let shifts = sources.map(|row| row.shift);
        match packing {
            Packing::Bits2 => encode_all(bytes, shifts, out, |codes| Packing::Bits2.encode(codes)),
            Packing::Base3 => encode_all(bytes, shifts, out, |codes| Packing::Base3.encode(codes)),
        }
    } else {
        for (i, out) in out.iter_mut().enumerate() {
            *out = packing.encode(rows.map(|row| row.map_or(ZERO, |row| row.code(first + i))));
        }
    }
}

/// The loop that the compiler makes vectors of.
#[inline(always)]
fn encode_all(bytes: [&[u8]; 5], shifts: [usize; 5], out: &mut [u8], encode: impl Fn([u8; 5]) -> u8) {
    let bytes = bytes.map(|bytes| &bytes[..out.len()]);
    for i in 0..out.len() {
        out[i] = encode(std::array::from_fn(|digit| bytes[digit][i] >> shifts[digit] & 3));
    }
}
