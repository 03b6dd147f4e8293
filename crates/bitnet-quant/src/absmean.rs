//! Ternary weights by absmean: the rule of BitNet b1.58.

use bitnet_core::{DisjointSlice, ThreadPool};

use crate::ternary::CODES_PER_BYTE;
use crate::{Error, Result, TernaryMatrix};

/// Below this mean of |W| the scale stops following it, as in the reference implementation.
pub const MIN_SCALE: f32 = 1e-5;

/// Ternarises a float matrix: `scale = max(mean|W|, 1e-5)`, `codes = clamp(round_half_even(W / scale), -1, 1)`.
///
/// `read_row(row, out)` widens row `row` (`cols` float32 values), so that a master of any type is read in place.
/// `W / scale` is computed as `W * (1 / scale)`, as the models were trained.
///
/// Errors: [`Error::NotFinite`] names the first row with an infinity or NaN; [`Error::Length`] for an empty matrix.
///
/// Source: "The Era of 1-bit LLMs", arXiv 2402.17764, section 2; transformers 5.23, `WeightQuant`.
pub fn quantize_weights(
    pool: &ThreadPool,
    rows: usize,
    cols: usize,
    read_row: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<TernaryMatrix> {
    if rows == 0 || cols == 0 {
        return Err(Error::Length { what: "elements", expected: 1, got: 0 });
    }
    let scale = absmean(pool, rows, cols, &read_row)?.max(MIN_SCALE);
    let packed = pack(pool, rows, cols, 1.0 / scale, &read_row);
    TernaryMatrix::from_packed(rows, cols, packed.into(), scale)
}

/// `mean|W|`, summed per row in float64 and over rows in order: the same on any number of threads.
#[expect(unsafe_code, reason = "threads write disjoint sums")]
fn absmean(
    pool: &ThreadPool,
    rows: usize,
    cols: usize,
    read_row: &(impl Fn(usize, &mut [f32]) + Sync),
) -> Result<f32> {
    let mut sums = vec![0.0_f64; rows];
    let shared = DisjointSlice::new(&mut sums);
    pool.split(rows, 1, |range| {
        let mut values = vec![0.0; cols];
        for row in range {
            read_row(row, &mut values);
            // SAFETY: each row belongs to one thread.
            unsafe { shared.write(row, values.iter().map(|&w| f64::from(w.abs())).sum()) };
        }
    });
    if let Some(row) = sums.iter().position(|sum| !sum.is_finite()) {
        return Err(Error::NotFinite { row });
    }
    Ok((sums.iter().sum::<f64>() / (rows as f64 * cols as f64)) as f32)
}

#[expect(unsafe_code, reason = "threads write disjoint packed rows")]
fn pack(
    pool: &ThreadPool,
    rows: usize,
    cols: usize,
    inverse: f32,
    read_row: &(impl Fn(usize, &mut [f32]) + Sync),
) -> Vec<u8> {
    let quarter = rows.div_ceil(CODES_PER_BYTE);
    let mut packed = vec![0_u8; quarter * cols];
    let shared = DisjointSlice::new(&mut packed);
    pool.split(quarter, 1, |range| {
        let mut values = vec![0.0; cols];
        for packed_row in range {
            // SAFETY: each packed row belongs to one thread.
            let bytes = unsafe { shared.part(packed_row * cols..(packed_row + 1) * cols) };
            for (lane, row) in (packed_row..rows).step_by(quarter).enumerate() {
                read_row(row, &mut values);
                for (byte, w) in bytes.iter_mut().zip(&values) {
                    let code = (w * inverse).round_ties_even().clamp(-1.0, 1.0);
                    *byte |= ((code + 1.0) as u8) << (2 * lane);
                }
            }
        }
    });
    packed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantize(rows: usize, cols: usize, w: &[f32], threads: usize) -> Result<TernaryMatrix> {
        let pool = ThreadPool::new(threads).unwrap();
        quantize_weights(&pool, rows, cols, |row, out| out.copy_from_slice(&w[row * cols..][..cols]))
    }

    #[test]
    fn follows_the_formula_by_hand() {
        // mean|W| = 1: 0.5 rounds to even (0), 1.5 to 2 and is clamped.
        let matrix = quantize(2, 2, &[0.5, -1.5, 1.75, -0.25], 1).unwrap();
        assert_eq!(matrix.scale(), 1.0);
        assert_eq!(matrix.codes(), [0, -1, 1, 0]);
    }

    #[test]
    fn zeros_stay_zeros_and_nan_names_its_row() {
        let zeros = quantize(3, 2, &[0.0; 6], 1).unwrap();
        assert_eq!((zeros.codes(), zeros.scale()), (vec![0; 6], MIN_SCALE));
        let error = quantize(3, 1, &[0.0, 1.0, f32::NAN], 2).unwrap_err();
        assert_eq!(error, Error::NotFinite { row: 2 });
        assert!(quantize(0, 4, &[], 1).is_err());
    }

    proptest! {
        #[test]
        fn equals_the_plain_rule_on_any_number_of_threads(
            (rows, cols, w) in (1_usize..14, 1_usize..20).prop_flat_map(|(rows, cols)| {
                (Just(rows), Just(cols), prop::collection::vec(-2.0_f32..2.0, rows * cols))
            }),
            threads in 1_usize..4,
        ) {
            let matrix = quantize(rows, cols, &w, threads).unwrap();
            let mean = w.iter().map(|w| f64::from(w.abs())).sum::<f64>() / w.len() as f64;
            prop_assert!((f64::from(matrix.scale()) - mean.max(1e-5)).abs() <= 1e-6 * mean);
            let inverse = 1.0 / matrix.scale();
            let codes: Vec<i8> =
                w.iter().map(|w| (w * inverse).round_ties_even().clamp(-1.0, 1.0) as i8).collect();
            prop_assert_eq!(matrix.codes(), codes);
        }
    }
}
