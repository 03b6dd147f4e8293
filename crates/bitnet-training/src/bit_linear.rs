//! Forward and backward pass of a `BitLinear` layer under the straight-through estimator.

use bitnet_core::{FloatKernels, ThreadPool};
use bitnet_quant::{QuantizedActivations, Result, TernaryKernel, quantize_weights};

use crate::{fake_quantize_activations, fake_quantize_weights};

/// Gradients of a loss with respect to the inputs of [`bit_linear_forward`].
#[derive(Debug, Clone, PartialEq)]
pub struct BitLinearGradients {
    /// `[tokens, cols]`
    pub x: Vec<f32>,
    /// `[rows, cols]`
    pub w: Vec<f32>,
}

/// `y = Q(x) Q(W)^T`, `[tokens, rows]`: the integer product that inference computes, not a product of floats.
///
/// `x` is `[tokens, cols]`, `w` the float master `[rows, cols]`.
///
/// Errors: those of [`quantize_weights`].
pub fn bit_linear_forward(
    pool: &ThreadPool,
    floats: &FloatKernels,
    ternary: &TernaryKernel,
    x: &[f32],
    w: &[f32],
    cols: usize,
) -> Result<Vec<f32>> {
    let rows = w.len() / cols;
    let matrix =
        quantize_weights(pool, rows, cols, |row, out| out.copy_from_slice(&w[row * cols..][..cols]))?;
    let mut quantized = QuantizedActivations::default();
    quantized.quantize(pool, floats, x, cols);
    let mut y = vec![0.0; quantized.tokens() * rows];
    ternary.matmul(pool, &matrix, &quantized, None, &mut y)?;
    Ok(y)
}

/// Gradients of [`bit_linear_forward`] for the gradient `dy` (`[tokens, rows]`) of its result.
///
/// `dx = dy Q(W)`, `dW = dy^T Q(x)`: the derivative of each rounding is taken to be 1 (straight-through estimator).
///
/// Errors: those of [`quantize_weights`]. Source: arXiv 2402.17764; arXiv 1308.3432.
pub fn bit_linear_backward(
    pool: &ThreadPool,
    floats: &FloatKernels,
    x: &[f32],
    w: &[f32],
    cols: usize,
    dy: &[f32],
) -> Result<BitLinearGradients> {
    let rows = w.len() / cols;
    let q_w = fake_quantize_weights(pool, rows, cols, w)?;
    let q_x = fake_quantize_activations(pool, floats, x, cols);
    let mut gradients = BitLinearGradients { x: vec![0.0; x.len()], w: vec![0.0; w.len()] };
    for (token, dy) in dy.chunks_exact(rows).enumerate() {
        let dx = &mut gradients.x[token * cols..][..cols];
        let q_x = &q_x[token * cols..][..cols];
        for (row, &dy) in dy.iter().enumerate() {
            floats.add_scaled(dx, dy, &q_w[row * cols..][..cols]);
            floats.add_scaled(&mut gradients.w[row * cols..][..cols], dy, q_x);
        }
    }
    Ok(gradients)
}

#[cfg(test)]
mod tests {
    use bitnet_core::Isa;

    use super::*;

    const TOKENS: usize = 3;
    const ROWS: usize = 5;
    const COLS: usize = 7;

    struct Setup {
        pool: ThreadPool,
        floats: FloatKernels,
        x: Vec<f32>,
        w: Vec<f32>,
        dy: Vec<f32>,
    }

    fn setup() -> Setup {
        let wave = |n: usize, seed: f32| (0..n).map(|i| (i as f32 * 1.7 + seed).sin()).collect();
        Setup {
            pool: ThreadPool::new(2).unwrap(),
            floats: FloatKernels::new(Isa::Scalar).unwrap(),
            x: wave(TOKENS * COLS, 0.3),
            w: wave(ROWS * COLS, 1.1),
            dy: wave(TOKENS * ROWS, 2.4),
        }
    }

    /// `sum(dy * (x + e_x) (W + e_W)^T)` in float64, with the rounding errors `e` held fixed: the function whose
    /// derivative the straight-through estimator is.
    fn surrogate(s: &Setup, x: &[f64], w: &[f64]) -> f64 {
        let q_x = fake_quantize_activations(&s.pool, &s.floats, &s.x, COLS);
        let q_w = fake_quantize_weights(&s.pool, ROWS, COLS, &s.w).unwrap();
        let at = |value: &[f64], quantized: &[f32], float: &[f32], i: usize| {
            value[i] + f64::from(quantized[i]) - f64::from(float[i])
        };
        let mut sum = 0.0;
        for token in 0..TOKENS {
            for row in 0..ROWS {
                for col in 0..COLS {
                    let x = at(x, &q_x, &s.x, token * COLS + col);
                    let w = at(w, &q_w, &s.w, row * COLS + col);
                    sum += f64::from(s.dy[token * ROWS + row]) * x * w;
                }
            }
        }
        sum
    }

    /// Central differences of the surrogate.
    fn differences(s: &Setup, of_weights: bool) -> Vec<f64> {
        let widen = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
        let (x, w) = (widen(&s.x), widen(&s.w));
        let len = if of_weights { w.len() } else { x.len() };
        let step = 1e-4;
        let shifted = |i: usize, by: f64| {
            let (mut x, mut w) = (x.clone(), w.clone());
            if of_weights {
                w[i] += by;
            } else {
                x[i] += by;
            }
            surrogate(s, &x, &w)
        };
        (0..len).map(|i| (shifted(i, step) - shifted(i, -step)) / (2.0 * step)).collect()
    }

    #[test]
    fn gradients_equal_finite_differences_of_the_surrogate() {
        let s = setup();
        let gradients = bit_linear_backward(&s.pool, &s.floats, &s.x, &s.w, COLS, &s.dy).unwrap();
        for (got, of_weights) in [(&gradients.x, false), (&gradients.w, true)] {
            for (got, expected) in got.iter().zip(differences(&s, of_weights)) {
                assert!((f64::from(*got) - expected).abs() < 1e-5, "{got} {expected}");
            }
        }
    }

    #[test]
    fn the_forward_product_is_that_of_the_fake_quantized_floats() {
        let s = setup();
        let kernel = TernaryKernel::new(Isa::selected().unwrap()).unwrap();
        let y = bit_linear_forward(&s.pool, &s.floats, &kernel, &s.x, &s.w, COLS).unwrap();
        let q_x = fake_quantize_activations(&s.pool, &s.floats, &s.x, COLS);
        let q_w = fake_quantize_weights(&s.pool, ROWS, COLS, &s.w).unwrap();
        for token in 0..TOKENS {
            for row in 0..ROWS {
                let expected = s.floats.dot_f32(&q_w[row * COLS..][..COLS], &q_x[token * COLS..][..COLS]);
                assert!((y[token * ROWS + row] - expected).abs() < 1e-5);
            }
        }
    }
}
