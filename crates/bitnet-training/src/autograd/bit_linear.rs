//! Linears of ternary weights and int8 activations.

use bitnet_core::{Isa, Tensor};
use bitnet_quant::{TernaryKernel, TernaryMatrix, TernaryOptions, quantize_matrix};

use super::elementwise::wanted;
use super::floats::{Compute, by_elements, by_rows, elements, uncleared};
use super::quantized_input::Codes;
use super::variable::is_recorded;
use super::{Estimator, QuantizedInput, Variable};
use crate::{Error, Result};

/// `y = Q(x) Q(W)^T`, `[.., rows]`, by the integer kernel that inference runs: the same bits.
///
/// `w` is the float master `[rows, width]`; gradients are those of `estimator`.
///
/// Errors: [`bitnet_quant::Error::NotFinite`], [`Error::Shape`], [`Error::InvalidOption`].
pub fn bit_linear(input: &QuantizedInput, w: &Variable, estimator: Estimator) -> Result<Variable> {
    estimator.check()?;
    let master = w.value();
    let width = input.quantized.cols();
    let &[rows, cols] = master.dims() else {
        let (operation, shape) = ("a linear", master.shape().clone());
        return Err(Error::Core(bitnet_core::Error::Rank { operation, expected: 2, shape }));
    };
    if cols != width {
        let (expected, got) = ([rows, width].into(), master.shape().clone());
        return Err(Error::Shape { what: "the weights of a linear".to_owned(), expected, got });
    }
    let compute = Compute::new()?;
    let matrix = quantize_matrix(&compute.pool, &elements(&master)?, cols, &TernaryOptions::default())?;
    if estimator.lambda() < 1.0 {
        return blended(input, w, &compute, &matrix, estimator.lambda());
    }
    let y = product(&compute, input, &matrix)?;
    if !is_recorded(&[&input.x, w]) {
        return Variable::constant(y);
    }
    let (codes, x, x_dims) = (input.codes()?, &input.x, input.x.dims());
    let clipped = match estimator {
        Estimator::Clipped { limit } => Some((master, limit)),
        Estimator::Plain | Estimator::Ramp { .. } => None,
    };
    Ok(Variable::result(y, [x, w], move |dy, [wants_x, wants_w]| {
        let compute = Compute::new()?;
        let dx = wanted(wants_x, || input_gradient(&compute, &dy, &matrix, x_dims))?;
        let dw = wanted(wants_w, || {
            let dy = dy.reshape([dy.len() / rows, rows])?;
            let dw = dy.transpose()?.matmul(&codes.dequantized(&compute)?)?;
            match clipped {
                Some((master, limit)) => within(&compute, &dw, &master, limit * matrix.one_scale()?),
                None => Ok(dw),
            }
        })?;
        Ok([dx, dw])
    }))
}

/// `Q(x) W^T`, `[.., rows]`.
pub(super) fn product(compute: &Compute, input: &QuantizedInput, w: &TernaryMatrix) -> Result<Tensor> {
    let mut y = uncleared(input.quantized.tokens() * w.rows())?;
    TernaryKernel::new(Isa::selected()?)?.matmul(&compute.pool, w, &input.quantized, None, &mut y)?;
    Ok(Tensor::from_pool(y, result_dims(input, w))?)
}

/// `dy W` in the shape of `x`.
pub(super) fn input_gradient(
    compute: &Compute,
    dy: &Tensor,
    w: &TernaryMatrix,
    x_dims: Vec<usize>,
) -> Result<Tensor> {
    let dy = dy.reshape([dy.len() / w.rows(), w.rows()])?;
    Ok(dy.matmul(&weights(compute, w)?)?.reshape(x_dims)?)
}

fn result_dims(input: &QuantizedInput, w: &TernaryMatrix) -> Vec<usize> {
    let mut dims = input.x.dims();
    if let Some(last) = dims.last_mut() {
        *last = w.rows();
    }
    dims
}

/// The product of values between float and quantized.
fn blended(
    input: &QuantizedInput,
    w: &Variable,
    compute: &Compute,
    matrix: &TernaryMatrix,
    lambda: f32,
) -> Result<Variable> {
    let QuantizedInput { x, quantized, .. } = input;
    let (tokens, cols) = (quantized.tokens(), quantized.cols());
    let blend = |float: &Tensor, quantized: &Tensor| -> Result<Tensor> {
        Ok(float.add(&quantized.sub(float)?.mul(lambda)?)?)
    };
    let x_blend =
        blend(&x.value().reshape([tokens, cols])?, &Codes::new(compute, quantized)?.dequantized(compute)?)?;
    let w_blend = blend(&w.value(), &weights(compute, matrix)?)?;
    let y = x_blend.matmul(&w_blend.transpose()?)?.reshape(result_dims(input, matrix))?;
    let x_dims = x.dims();
    Ok(Variable::result(y, [x, w], move |dy, [wants_x, wants_w]| {
        let dy = dy.reshape([tokens, w_blend.dims()[0]])?;
        Ok([
            wanted(wants_x, || Ok(dy.matmul(&w_blend)?.reshape(x_dims)?))?,
            wanted(wants_w, || Ok(dy.transpose()?.matmul(&x_blend)?))?,
        ])
    }))
}

/// `Q(W)`: `codes * scale`, `[rows, cols]`.
fn weights(compute: &Compute, matrix: &TernaryMatrix) -> Result<Tensor> {
    let (rows, cols, scale) = (matrix.rows(), matrix.cols(), matrix.one_scale()?);
    by_rows(compute, &[rows, cols].into(), cols, |first, out| {
        for (row, out) in (first..).zip(out.chunks_exact_mut(cols)) {
            out.iter_mut().zip(matrix.row_codes(row)).for_each(|(out, code)| *out = f32::from(code) * scale);
        }
    })
}

/// `dw` where `|W| <= most`, else 0.
fn within(compute: &Compute, dw: &Tensor, master: &Tensor, most: f32) -> Result<Tensor> {
    let (gradient, w) = (elements(dw)?, elements(master)?);
    by_elements(compute, dw.shape(), |start, out| {
        for ((out, dw), w) in out.iter_mut().zip(&gradient[start..]).zip(&w[start..]) {
            *out = if w.abs() <= most { *dw } else { 0.0 };
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::check::wave;
    use super::*;

    const TOKENS: usize = 6;
    const ROWS: usize = 5;
    const COLS: usize = 7;

    fn leaf(dims: [usize; 2], seed: f64) -> Variable {
        let values = wave(dims[0] * dims[1], seed).iter().map(|&x| x as f32).collect::<Vec<_>>();
        Variable::leaf(Tensor::from_vec(values, dims).unwrap()).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        tensor.to_f32().unwrap().into_iter().map(f64::from).collect()
    }

    /// Float and quantized values of `x` and `w`.
    fn parts(x: &Variable, w: &Variable) -> [[Vec<f64>; 2]; 2] {
        let compute = Compute::new().unwrap();
        let master = elements(&w.value()).unwrap();
        let matrix = quantize_matrix(&compute.pool, &master, COLS, &TernaryOptions::default()).unwrap();
        let q_x = QuantizedInput::new(x).unwrap().codes().unwrap().dequantized(&compute).unwrap();
        [
            [values(&x.value()), values(&q_x)],
            [values(&w.value()), values(&weights(&compute, &matrix).unwrap())],
        ]
    }

    /// `x w^T`.
    fn product(x: &[f64], w: &[f64]) -> Vec<f64> {
        let at = |i: usize| (0..COLS).map(|c| x[i / ROWS * COLS + c] * w[i % ROWS * COLS + c]).sum();
        (0..TOKENS * ROWS).map(at).collect()
    }

    /// Checks the gradients against differences of `sum(dy x' w'^T)` in float64, where `x' = x + e` and `w' = w + e` with
    /// the rounding errors `e` held fixed: the function whose derivative the estimator is.
    fn check(estimator: Estimator, is_kept: impl Fn(f64) -> bool) {
        let (x, w) = (leaf([TOKENS, COLS], 0.3), leaf([ROWS, COLS], 1.1));
        let y = bit_linear(&QuantizedInput::new(&x).unwrap(), &w, estimator).unwrap();
        let seen = parts(&x, &w).map(|[float, quantized]| -> Vec<f64> {
            let blend = |(f, q): (&f64, &f64)| f + f64::from(estimator.lambda()) * (q - f);
            float.iter().zip(&quantized).map(blend).collect()
        });
        for (got, expected) in values(&y.value()).iter().zip(product(&seen[0], &seen[1])) {
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
        let dy = leaf([TOKENS, ROWS], 2.4).value();
        let loss =
            |x: &[f64], w: &[f64]| product(x, w).iter().zip(values(&dy)).map(|(y, dy)| y * dy).sum::<f64>();
        y.backward_with(dy.clone()).unwrap();
        for (side, leaf) in [&x, &w].into_iter().enumerate() {
            for (i, got) in values(&leaf.gradient().unwrap()).into_iter().enumerate() {
                let shifted = |by: f64| {
                    let mut seen = seen.clone();
                    seen[side][i] += by;
                    loss(&seen[0], &seen[1])
                };
                let slope = (shifted(1e-4) - shifted(-1e-4)) / 2e-4;
                let expected = if side == 0 || is_kept(values(&w.value())[i]) { slope } else { 0.0 };
                assert!((got - expected).abs() < 1e-5, "{got} {expected}");
            }
        }
    }

    #[test]
    fn gradients_equal_finite_differences_of_the_surrogate() {
        check(Estimator::Plain, |_| true);
        check(Estimator::Ramp { lambda: 1.0 }, |_| true);
        check(Estimator::Ramp { lambda: 0.25 }, |_| true);
        check(Estimator::Ramp { lambda: 0.0 }, |_| true);
    }

    #[test]
    fn clipped_weights_get_no_gradient() {
        let w = values(&leaf([ROWS, COLS], 1.1).value());
        let mean = w.iter().map(|w| w.abs()).sum::<f64>() / w.len() as f64;
        assert!(w.iter().any(|w| w.abs() > mean) && w.iter().any(|w| w.abs() < mean));
        check(Estimator::Clipped { limit: 1.0 }, |w| w.abs() <= mean);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let (x, w) = (leaf([2, 3], 0.1), leaf([4, 5], 0.2));
        let input = QuantizedInput::new(&x).unwrap();
        assert!(matches!(bit_linear(&input, &w, Estimator::Plain), Err(Error::Shape { .. })));
        let w = leaf([4, 3], 0.2);
        assert!(bit_linear(&input, &w, Estimator::Ramp { lambda: 1.5 }).is_err());
        assert!(bit_linear(&input, &w, Estimator::Clipped { limit: f32::NAN }).is_err());
        let empty = Variable::constant(Tensor::zeros([0, 3], bitnet_core::DType::F32).unwrap()).unwrap();
        assert!(QuantizedInput::new(&empty).is_err());
    }
}
