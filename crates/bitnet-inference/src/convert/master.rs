//! A float master that ternarises to given codes and exactly the given scale.
//!
//! Absmean takes `mean|W|` for the scale and rounds `W / scale`. So a weight of code +1 or -1 may have any magnitude
//! above half the scale, one of code 0 any below; only the sum of all magnitudes is settled, `scale * weights`. It is
//! shared out in bfloat16:
//!
//! ```text
//! low  = the sum / nonzero weights, rounded down to bfloat16; high = the next bfloat16
//! rest = the sum - low * nonzero weights
//! the first floor(rest / (high - low)) nonzero weights get high, the others low
//! the first zeros get what is left then: bfloat16 by bfloat16, far below half the scale
//! ```
//!
//! All of these are multiples of one unit and below 2^53 of it, so float64 adds them exactly, in any order.

use bitnet_quant::TernaryMatrix;
use half::bf16;

/// Zeros that may get a magnitude: each takes eight bits of the rest.
const ZEROS: usize = 8;

/// The magnitudes of a master.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Master {
    low: bf16,
    high: bf16,
    /// How many nonzero weights get `high`.
    raised: usize,
    /// Magnitudes of the first zeros.
    zeros: Vec<bf16>,
}

impl Master {
    /// The magnitudes for the codes and the scale of `matrix`; `None` where there are none: for a matrix of zeros, a
    /// scale below what absmean gives, a few weights without a zero among them.
    pub(super) fn of(matrix: &TernaryMatrix, scale: f32) -> Option<Self> {
        Self::with_sum(matrix.rows() * matrix.cols(), nonzero(matrix), scale)
    }

    /// The magnitude that comes nearest with no more than one: the scale is right to eight bits.
    pub(super) fn near(matrix: &TernaryMatrix, scale: f32) -> Self {
        let weights = (matrix.rows() * matrix.cols()) as f64;
        let low = bf16::from_f64(f64::from(scale) * weights / nonzero(matrix).max(1) as f64);
        Self { low, high: low, raised: 0, zeros: Vec::new() }
    }

    fn with_sum(weights: usize, nonzero: usize, scale: f32) -> Option<Self> {
        let sum = f64::from(scale) * weights as f64;
        let low = round_down(sum / nonzero as f64)?;
        let high = bf16::from_bits(low.to_bits() + 1);
        let step = high.to_f64() - low.to_f64();
        let rest = sum - low.to_f64() * nonzero as f64;
        let raised = ((rest / step) as usize).min(nonzero);
        let mut rest = rest - raised as f64 * step;
        let mut zeros = Vec::new();
        while rest > 0.0 && zeros.len() < ZEROS.min(weights - nonzero) {
            let part = round_down(rest)?;
            rest -= part.to_f64();
            zeros.push(part);
        }
        let master = Self { low, high, raised, zeros };
        master.gives(weights, nonzero, scale).then_some(master)
    }

    /// Whether absmean gives the scale, and rounding the codes.
    fn gives(&self, weights: usize, nonzero: usize, scale: f32) -> bool {
        let of_zeros: f64 = self.zeros.iter().map(|w| w.to_f64()).sum();
        let (raised, others) = (self.raised as f64, (nonzero - self.raised) as f64);
        let sum = raised * self.high.to_f64() + others * self.low.to_f64() + of_zeros;
        let mean = (sum / weights as f64) as f32;
        let code = |magnitude: bf16| (magnitude.to_f32() * (1.0 / scale)).round_ties_even();
        mean == scale
            && scale >= bitnet_quant::weights::MIN_SCALE
            && self.high.is_finite()
            && code(self.low) >= 1.0
            && self.zeros.iter().all(|zero| code(*zero) == 0.0)
    }

    /// The master, row-major, little-endian.
    pub(super) fn bytes(&self, matrix: &TernaryMatrix) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(matrix.rows() * matrix.cols() * size_of::<bf16>());
        let (mut raised, mut zeros) = (self.raised, self.zeros.iter());
        for row in 0..matrix.rows() {
            for code in matrix.row_codes(row) {
                let weight = if code == 0 {
                    zeros.next().copied().unwrap_or_default()
                } else {
                    let magnitude = if raised > 0 { self.high } else { self.low };
                    raised = raised.saturating_sub(1);
                    if code > 0 { magnitude } else { -magnitude }
                };
                bytes.extend(weight.to_le_bytes());
            }
        }
        bytes
    }
}

fn nonzero(matrix: &TernaryMatrix) -> usize {
    (0..matrix.rows()).map(|row| matrix.row_codes(row).filter(|code| *code != 0).count()).sum()
}

/// The largest bfloat16 that is not above a positive number; `None` where that is 0 or not finite.
fn round_down(value: f64) -> Option<bf16> {
    let nearest = bf16::from_f64(value);
    let down =
        if nearest.to_f64() > value { bf16::from_bits(nearest.to_bits().checked_sub(1)?) } else { nearest };
    (down.is_finite() && down > bf16::ZERO).then_some(down)
}

#[cfg(test)]
mod tests {
    use bitnet_core::ThreadPool;
    use bitnet_quant::quantize_weights;
    use proptest::prelude::*;

    use super::*;

    /// The master read back as a model is loaded.
    fn ternarised(matrix: &TernaryMatrix, master: &Master) -> TernaryMatrix {
        let bytes = master.bytes(matrix);
        let weights: Vec<f32> =
            bytes.as_chunks().0.iter().map(|w| bf16::from_le_bytes(*w).to_f32()).collect();
        let pool = ThreadPool::new(1).unwrap();
        quantize_weights(&pool, matrix.rows(), matrix.cols(), |row, out| {
            out.copy_from_slice(&weights[row * matrix.cols()..][..matrix.cols()]);
        })
        .unwrap()
    }

    proptest! {
        #[test]
        fn absmean_gives_codes_and_scale_back(
            (rows, cols, codes) in (8_usize..40, 8_usize..40).prop_flat_map(|(rows, cols)| {
                (Just(rows), Just(cols), prop::collection::vec(-1_i8..=1, rows * cols))
            }),
            scale in 1e-4_f32..1e3,
        ) {
            let matrix = TernaryMatrix::from_codes(rows, cols, &codes, scale).unwrap();
            let master = Master::of(&matrix, scale).expect("a third of the weights are zeros");
            let back = ternarised(&matrix, &master);
            prop_assert_eq!(back.scale(), scale);
            prop_assert_eq!(back.codes(), codes);
        }

        #[test]
        fn what_is_given_is_right_even_where_little_is_free(
            (rows, cols, codes) in (1_usize..5, 1_usize..5).prop_flat_map(|(rows, cols)| {
                (Just(rows), Just(cols), prop::collection::vec(-1_i8..=1, rows * cols))
            }),
            scale in prop::num::f32::POSITIVE | prop::num::f32::NORMAL,
        ) {
            let scale = scale.abs();
            let matrix = TernaryMatrix::from_codes(rows, cols, &codes, scale).unwrap();
            if let Some(master) = Master::of(&matrix, scale) {
                let back = ternarised(&matrix, &master);
                prop_assert_eq!(back.scale(), scale);
                prop_assert_eq!(back.codes(), codes);
            }
        }
    }

    #[test]
    fn zeros_alone_and_tiny_scales_have_no_master() {
        let matrix = |codes: &[i8], scale| TernaryMatrix::from_codes(2, 2, codes, scale).unwrap();
        assert_eq!(Master::of(&matrix(&[0; 4], 1.0), 1.0), None);
        assert_eq!(Master::of(&matrix(&[1, 0, -1, 0], 1e-6), 1e-6), None);
        // Four weights of 1 + 2^-20 each: no bfloat16 is near enough, and no zero takes the rest.
        assert_eq!(Master::of(&matrix(&[1; 4], 1.0 + 2.0_f32.powi(-20)), 1.0 + 2.0_f32.powi(-20)), None);
    }
}
