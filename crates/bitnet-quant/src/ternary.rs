//! The one ternary type.
//!
//! Codes lie four to a byte, `code = w + 1` in two bits, in the order of packed Hugging Face checkpoints: with
//! `R = ceil(rows / 4)`, byte `(r, c)` holds column `c` of rows `r`, `r + R`, `r + 2R` and `r + 3R`, lowest bits first.
//! One activation vector then serves four rows, so the kernels multiply checkpoints where they are mapped, without a
//! repacked copy. Source of the layout: transformers 5.23, `integrations/bitnet.py`, `pack_weights`.

use std::sync::atomic::{AtomicBool, Ordering};

use bitnet_core::{Buffer, DisjointSlice, Pages, Shape, ThreadPool};

use crate::wide::merge_codes;
use crate::{Error, Granularity, Result, Scales};

/// Codes per byte.
pub const CODES_PER_BYTE: usize = 4;

/// A matrix of codes in {-1, 0, +1} with its scales: `W = codes * scale`.
///
/// One scale for all of it is the rule, and what the kernels take; see [`Scales`] for the others.
#[derive(Debug, Clone)]
pub struct TernaryMatrix {
    rows: usize,
    cols: usize,
    packed: Buffer,
    scales: Scales,
}

impl TernaryMatrix {
    /// Packs `rows x cols` codes, row-major.
    ///
    /// Errors: [`Error::Length`], [`Error::InvalidCode`], [`Error::InvalidScale`]; the same for scales that do not fit.
    pub fn from_codes(rows: usize, cols: usize, codes: &[i8], scales: impl Into<Scales>) -> Result<Self> {
        let elements = rows.saturating_mul(cols);
        if codes.len() != elements {
            return Err(Error::Length { what: "codes", expected: elements, got: codes.len() });
        }
        if let Some(at) = codes.iter().position(|code| !(-1..=1).contains(code)) {
            return Err(Error::InvalidCode { row: at / cols, col: at % cols, code: codes[at].into() });
        }
        let quarter = rows.div_ceil(CODES_PER_BYTE);
        let mut packed = vec![0_u8; quarter * cols];
        for (row, codes) in codes.chunks_exact(cols.max(1)).enumerate() {
            let shift = 2 * (row / quarter);
            let bytes = &mut packed[row % quarter * cols..][..cols];
            for (byte, code) in bytes.iter_mut().zip(codes) {
                *byte |= ((code + 1) as u8) << shift;
            }
        }
        Self::checked(rows, cols, packed.into(), scales.into())
    }

    /// Reads packed codes in place.
    ///
    /// Errors: [`Error::Length`] when `packed` is not `ceil(rows / 4) * cols` bytes, [`Error::InvalidCode`] for the
    /// first code 3 in a row that exists, [`Error::InvalidScale`].
    pub fn from_packed(rows: usize, cols: usize, packed: Buffer, scales: impl Into<Scales>) -> Result<Self> {
        let expected = rows.div_ceil(CODES_PER_BYTE).saturating_mul(cols);
        if packed.len() != expected {
            return Err(Error::Length { what: "packed bytes", expected, got: packed.len() });
        }
        let matrix = Self::checked(rows, cols, packed, scales.into())?;
        match matrix.first_invalid() {
            Some((row, col)) => Err(Error::InvalidCode { row, col, code: 3 }),
            None => Ok(matrix),
        }
    }

    /// Packs rows that `fill(state, row, codes)` writes, as `w + 1`, with the threads of `pool`. Each thread has a
    /// state of its own.
    ///
    /// Errors: [`Error::InvalidCode`] for the first code 3, [`Error::InvalidScale`], [`Error::Core`] without memory.
    #[expect(unsafe_code, reason = "threads write disjoint packed rows")]
    pub(crate) fn from_rows<S: Default>(
        pool: &ThreadPool,
        rows: usize,
        cols: usize,
        scales: impl Into<Scales>,
        fill: impl Fn(&mut S, usize, &mut [u8]) + Sync,
    ) -> Result<Self> {
        Shape::from([rows, cols]).elements()?;
        let quarter = rows.div_ceil(CODES_PER_BYTE);
        let mut packed = Pages::zeroed(quarter * cols)?;
        let shared = DisjointSlice::new(packed.as_mut_slice());
        let has_invalid = AtomicBool::new(false);
        pool.split(quarter, 1, |range| {
            let (mut state, mut codes) = (S::default(), vec![0; cols]);
            let mut has_three = 0;
            for packed_row in range {
                // SAFETY: each packed row belongs to one thread.
                let bytes = unsafe { shared.part(packed_row * cols..(packed_row + 1) * cols) };
                for (lane, row) in (packed_row..rows).step_by(quarter).enumerate() {
                    fill(&mut state, row, &mut codes);
                    has_three |= merge_codes(bytes, &codes, 2 * lane);
                }
            }
            has_invalid.fetch_or(has_three != 0, Ordering::Relaxed);
        });
        let matrix = Self::checked(rows, cols, Buffer::from_owner(packed), scales.into())?;
        match has_invalid.into_inner().then(|| matrix.first_invalid()).flatten() {
            Some((row, col)) => Err(Error::InvalidCode { row, col, code: 3 }),
            None => Ok(matrix),
        }
    }

    fn checked(rows: usize, cols: usize, packed: Buffer, scales: Scales) -> Result<Self> {
        scales.check(rows, cols)?;
        Ok(Self { rows, cols, packed, scales })
    }

    /// The same codes with other scales.
    ///
    /// Errors: those of [`Scales::check`].
    pub fn with_scales(self, scales: impl Into<Scales>) -> Result<Self> {
        Self::checked(self.rows, self.cols, self.packed, scales.into())
    }

    /// Number of rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// `ceil(rows / 4)`, the rows of the packed matrix.
    pub fn packed_rows(&self) -> usize {
        self.rows.div_ceil(CODES_PER_BYTE)
    }

    /// The packed bytes, `[packed_rows, cols]`.
    pub fn packed(&self) -> &Buffer {
        &self.packed
    }

    /// What the codes stand for.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// What a code of 1 stands for, in a matrix with one scale.
    ///
    /// Errors: [`Error::Granularity`] when there are several scales.
    pub fn one_scale(&self) -> Result<f32> {
        match self.scales {
            Scales::Tensor(scale) => Ok(scale),
            _ => Err(Error::Granularity {
                what: "this product",
                takes: Granularity::Tensor,
                got: self.scales.granularity(),
            }),
        }
    }

    /// The codes of one row, in {-1, 0, +1}.
    pub fn row_codes(&self, row: usize) -> impl Iterator<Item = i8> + '_ {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let quarter = self.packed_rows();
        let shift = 2 * (row / quarter);
        let bytes = &self.packed[row % quarter * self.cols..][..self.cols];
        bytes.iter().map(move |byte| (byte >> shift & 3) as i8 - 1)
    }

    /// Writes the codes of one row as `w + 1`.
    pub(crate) fn read_row(&self, row: usize, out: &mut [u8]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let quarter = self.packed_rows();
        let shift = 2 * (row / quarter);
        let bytes = &self.packed[row % quarter * self.cols..][..self.cols];
        for (out, byte) in out.iter_mut().zip(bytes) {
            *out = byte >> shift & 3;
        }
    }

    /// All codes, row-major.
    pub fn codes(&self) -> Vec<i8> {
        (0..self.rows).flat_map(|row| self.row_codes(row)).collect()
    }

    /// `codes * scale`, row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.rows * self.cols);
        for row in 0..self.rows {
            let mut codes = self.row_codes(row);
            for (columns, scale) in self.scales.of_row(row, self.cols) {
                out.extend(codes.by_ref().take(columns.len()).map(|code| f32::from(code) * scale));
            }
        }
        out
    }

    /// Row and column of the first code 3. A byte has one when two neighbouring bits of a pair are both set.
    fn first_invalid(&self) -> Option<(usize, usize)> {
        const LOW_BITS: u64 = 0x5555_5555_5555_5555;
        let (words, tail) = self.packed.as_chunks::<8>();
        // No early exit inside a block: the test then runs at the speed of memory.
        let found = words.chunks(4096).any(|block| {
            let pairs = block.iter().fold(0, |acc, &word| {
                let word = u64::from_le_bytes(word);
                acc | (word & (word >> 1))
            });
            pairs & LOW_BITS != 0
        });
        if !found && tail.iter().all(|byte| byte & (byte >> 1) & 0x55 == 0) {
            return None;
        }
        (0..self.rows).find_map(|row| self.row_codes(row).position(|code| code == 2).map(|col| (row, col)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The golden pattern of the format reference: `w[i] = ((7 i + i / 5) mod 3) - 1` as 64 x 4.
    #[test]
    fn golden_vector_of_the_packed_layout() {
        let codes: Vec<i8> = (0..256).map(|i| ((7 * i + i / 5) % 3) as i8 - 1).collect();
        let matrix = TernaryMatrix::from_codes(64, 4, &codes, 1.5).unwrap();
        let start: Vec<String> = matrix.packed()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(matrix.packed().len(), 64);
        assert_eq!(start.concat(), "84114618618411461861841146186184");
    }

    proptest! {
        #[test]
        fn codes_round_trip((rows, cols, codes) in (1_usize..20, 1_usize..40).prop_flat_map(|(rows, cols)| {
            (Just(rows), Just(cols), prop::collection::vec(-1_i8..=1, rows * cols))
        })) {
            let matrix = TernaryMatrix::from_codes(rows, cols, &codes, 0.5).unwrap();
            prop_assert_eq!(matrix.codes(), codes);
            let again = TernaryMatrix::from_packed(rows, cols, matrix.packed().clone(), 0.5).unwrap();
            prop_assert_eq!(again.codes(), matrix.codes());
        }

        #[test]
        fn the_first_code_3_is_named(row in 0_usize..7, col in 0_usize..33) {
            let (rows, cols) = (7, 33);
            let mut packed = vec![0_u8; 2 * cols];
            packed[row % 2 * cols + col] = 3 << (2 * (row / 2));
            let error = TernaryMatrix::from_packed(rows, cols, packed.into(), 1.0).unwrap_err();
            prop_assert_eq!(error, Error::InvalidCode { row, col, code: 3 });
        }
    }

    #[test]
    fn code_3_in_a_padding_row_is_nobodys_code() {
        let packed = vec![0b1100_0000_u8; 4];
        assert!(TernaryMatrix::from_packed(3, 4, packed.into(), 1.0).is_ok());
    }

    #[test]
    fn wrong_lengths_codes_and_scales_are_refused() {
        let error = |result: Result<TernaryMatrix>| result.unwrap_err().to_string();
        assert_eq!(error(TernaryMatrix::from_codes(2, 2, &[0; 3], 1.0)), "codes: expected 4, got 3");
        assert_eq!(
            error(TernaryMatrix::from_codes(1, 2, &[0, 2], 1.0)),
            "row 0, column 1: 2 is not a ternary code"
        );
        let packed = |bytes: usize, scale| TernaryMatrix::from_packed(4, 4, vec![0_u8; bytes].into(), scale);
        assert_eq!(error(packed(5, 1.0)), "packed bytes: expected 4, got 5");
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(matches!(packed(4, scale), Err(Error::InvalidScale(_))));
        }
    }
}
