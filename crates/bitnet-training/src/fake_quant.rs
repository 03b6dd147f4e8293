//! Fake quantization: floats that lie on the grid of the quantized values.

use bitnet_core::{FloatKernels, ThreadPool};
use bitnet_quant::{QuantizedActivations, Result, quantize_weights};

/// Weights as the forward pass sees them: `codes * scale` of absmean ternarisation, `[rows, cols]`.
///
/// The straight-through estimator (arXiv 1308.3432) takes the derivative of this function to be 1: the gradient of the
/// result is the gradient of `w`.
///
/// Errors: those of [`quantize_weights`]. Source: arXiv 2402.17764, section 2.
pub fn fake_quantize_weights(pool: &ThreadPool, rows: usize, cols: usize, w: &[f32]) -> Result<Vec<f32>> {
    assert_eq!(w.len(), rows * cols, "w is [rows, cols]");
    let matrix =
        quantize_weights(pool, rows, cols, |row, out| out.copy_from_slice(&w[row * cols..][..cols]))?;
    Ok(matrix.dequantize())
}

/// Activations as the forward pass sees them: `codes / scale` of absmax int8 per token, `[tokens, cols]`.
///
/// Straight-through as [`fake_quantize_weights`]. Source: arXiv 2402.17764, section 2.
pub fn fake_quantize_activations(
    pool: &ThreadPool,
    kernels: &FloatKernels,
    x: &[f32],
    cols: usize,
) -> Vec<f32> {
    let mut quantized = QuantizedActivations::default();
    quantized.quantize(pool, kernels, x, cols);
    let tokens = quantized.scales().iter().enumerate();
    let values = |(token, scale)| quantized.token(token).iter().map(move |&code| f32::from(code) / scale);
    tokens.flat_map(values).collect()
}

#[cfg(test)]
mod tests {
    use bitnet_core::Isa;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weights_follow_the_formula_by_hand() {
        let pool = ThreadPool::new(1).unwrap();
        // mean|W| = 2: 1 / 2 rounds to even (0), 3 / 2 to 2, which is clamped to 1.
        assert_eq!(
            fake_quantize_weights(&pool, 2, 2, &[1.0, -3.0, 3.5, -0.5]).unwrap(),
            [0.0, -2.0, 2.0, 0.0]
        );
    }

    #[test]
    fn activations_follow_the_formula_by_hand() {
        let pool = ThreadPool::new(1).unwrap();
        let kernels = FloatKernels::new(Isa::Scalar).unwrap();
        assert_eq!(fake_quantize_activations(&pool, &kernels, &[127.0, 1.4, -0.5], 3), [127.0, 1.0, 0.0]);
    }

    proptest! {
        #[test]
        fn quantizing_twice_changes_nothing_and_the_error_is_half_a_step(
            x in prop::collection::vec(-8.0_f32..8.0, 1..200),
        ) {
            let pool = ThreadPool::new(1).unwrap();
            let kernels = FloatKernels::new(Isa::Scalar).unwrap();
            let once = fake_quantize_activations(&pool, &kernels, &x, x.len());
            let step = x.iter().fold(1e-5_f32, |max, x| max.max(x.abs())) / 127.0;
            for (x, y) in x.iter().zip(&once) {
                prop_assert!((x - y).abs() <= 0.5001 * step);
            }
            for (once, twice) in once.iter().zip(fake_quantize_activations(&pool, &kernels, &once, x.len())) {
                prop_assert!((once - twice).abs() <= 1e-3 * step);
            }
        }
    }
}
