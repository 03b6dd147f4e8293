//! Linears of ternary weights and int8 activations.

use std::cell::Cell;
use std::sync::Arc;

use bitnet_core::{HybridMemoryPool, Isa, PoolVec, Tensor};
use bitnet_quant::{QuantizedActivations, TernaryKernel, TernaryMatrix, TernaryOptions, quantize_matrix};

use super::Variable;
use super::elementwise::wanted;
use super::floats::{Compute, by_elements, by_rows, elements, uncleared};
use super::variable::{is_recorded, is_recording};
use crate::{Error, Result};

/// What the derivative of rounding is taken to be: a straight-through estimator.
///
/// With `Q` the rounding, `y = Q(x) Q(W)^T`, `dx = dy Q(W)`, `dW = dy^T Q(x)`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Estimator {
    /// 1 (arXiv 1308.3432), as BitNet b1.58 was trained (arXiv 2402.17764).
    #[default]
    Plain,
    /// 1 where `|W| <= limit mean|W|`, else 0: weights that are clipped far beyond their code stop there (arXiv 1602.02830
    /// has a limit of 1).
    Clipped {
        /// In units of the scale.
        limit: f32,
    },
    /// 1, of `W + lambda (Q(W) - W)` and `x + lambda (Q(x) - x)`, which stand for `Q(W)` and `Q(x)` everywhere: from full
    /// precision at 0 to [`Self::Plain`] at 1, to convert a pretrained model. Below 1 the product is one of floats.
    Ramp {
        /// From 0 to 1.
        lambda: f32,
    },
}

impl Estimator {
    /// Errors: [`Error::InvalidOption`] for a limit that is not positive, or a lambda outside of 0 to 1.
    pub fn check(self) -> Result<()> {
        let invalid =
            |name, expected, got: f32| Error::InvalidOption { name, expected, got: got.to_string() };
        match self {
            Self::Clipped { limit } if limit.is_nan() || limit <= 0.0 => {
                Err(invalid("limit", "above 0", limit))
            }
            Self::Ramp { lambda } if !(0.0..=1.0).contains(&lambda) => {
                Err(invalid("lambda", "from 0 to 1", lambda))
            }
            _ => Ok(()),
        }
    }

    /// How much of a value is the quantized one.
    fn lambda(self) -> f32 {
        match self {
            Self::Plain | Self::Clipped { .. } => 1.0,
            Self::Ramp { lambda } => lambda,
        }
    }
}

/// An input of several linears, quantized once.
#[derive(Debug)]
pub struct QuantizedInput {
    x: Variable,
    /// As the kernels read it, until the forward pass is over.
    quantized: QuantizedActivations,
    /// As the backward pass reads it, where there will be one.
    codes: Option<Arc<Codes>>,
}

/// `codes / scale` of `[tokens, cols]`.
#[derive(Debug)]
struct Codes {
    codes: PoolVec<i8>,
    scales: PoolVec<f32>,
    cols: usize,
}

thread_local! {
    /// Memory of the last input, for the next.
    static SPARE: Cell<QuantizedActivations> = Cell::default();
}

impl QuantizedInput {
    /// Absmax int8 of every token; `x` is `[.., width]`.
    ///
    /// Errors: [`bitnet_core::Error::Empty`], [`bitnet_core::Error::OutOfMemory`].
    pub fn new(x: &Variable) -> Result<Self> {
        let value = x.value();
        let width = match value.dims().last() {
            Some(&width) if !value.is_empty() => width,
            _ => {
                let (operation, shape) = ("int8 codes", value.shape().clone());
                return Err(Error::Core(bitnet_core::Error::Empty { operation, shape }));
            }
        };
        let compute = Compute::new()?;
        let mut quantized = SPARE.take();
        quantized.quantize(&compute.pool, &compute.kernels, &elements(&value)?, width);
        let codes = is_recording().then(|| Codes::new(&quantized)).transpose()?.map(Arc::new);
        Ok(Self { x: x.clone(), quantized, codes })
    }

    fn codes(&self) -> Result<Arc<Codes>> {
        match &self.codes {
            Some(codes) => Ok(Arc::clone(codes)),
            None => Ok(Arc::new(Codes::new(&self.quantized)?)),
        }
    }
}

impl Drop for QuantizedInput {
    fn drop(&mut self) {
        SPARE.set(std::mem::take(&mut self.quantized));
    }
}

impl Codes {
    fn new(quantized: &QuantizedActivations) -> Result<Self> {
        let (tokens, cols) = (quantized.tokens(), quantized.cols());
        let mut codes = HybridMemoryPool::global().uncleared(tokens * cols)?;
        let mut scales = uncleared(tokens)?;
        for (token, codes) in codes.chunks_exact_mut(cols).enumerate() {
            codes.copy_from_slice(quantized.token(token));
        }
        scales.copy_from_slice(quantized.scales());
        Ok(Self { codes, scales, cols })
    }

    /// `Q(x)`, `[tokens, cols]`.
    fn values(&self, compute: &Compute) -> Result<Tensor> {
        by_rows(compute, &[self.scales.len(), self.cols].into(), self.cols, |first, out| {
            let rows =
                out.chunks_exact_mut(self.cols).zip(self.codes[first * self.cols..].chunks_exact(self.cols));
            for ((out, codes), scale) in rows.zip(&self.scales[first..]) {
                out.iter_mut().zip(codes).for_each(|(out, code)| *out = f32::from(*code) / scale);
            }
        })
    }
}

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
    let mut dims = input.x.dims();
    let last = dims.len() - 1;
    dims[last] = rows;
    if estimator.lambda() < 1.0 {
        return blended(input, w, &compute, &matrix, estimator.lambda(), dims);
    }
    let tokens = input.quantized.tokens();
    let mut y = uncleared(tokens * rows)?;
    TernaryKernel::new(Isa::selected()?)?.matmul(&compute.pool, &matrix, &input.quantized, None, &mut y)?;
    let y = Tensor::from_pool(y, dims)?;
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
        let dy = dy.reshape([tokens, rows])?;
        let dx = wanted(wants_x, || Ok(dy.matmul(&weights(&compute, &matrix)?)?.reshape(x_dims)?))?;
        let dw = wanted(wants_w, || {
            let dw = dy.transpose()?.matmul(&codes.values(&compute)?)?;
            match clipped {
                Some((master, limit)) => within(&compute, &dw, &master, limit * matrix.one_scale()?),
                None => Ok(dw),
            }
        })?;
        Ok([dx, dw])
    }))
}

/// The product of values between float and quantized.
fn blended(
    input: &QuantizedInput,
    w: &Variable,
    compute: &Compute,
    matrix: &TernaryMatrix,
    lambda: f32,
    dims: Vec<usize>,
) -> Result<Variable> {
    let QuantizedInput { x, quantized, .. } = input;
    let (tokens, cols) = (quantized.tokens(), quantized.cols());
    let blend = |float: &Tensor, quantized: &Tensor| -> Result<Tensor> {
        Ok(float.add(&quantized.sub(float)?.mul(lambda)?)?)
    };
    let x_blend = blend(&x.value().reshape([tokens, cols])?, &Codes::new(quantized)?.values(compute)?)?;
    let w_blend = blend(&w.value(), &weights(compute, matrix)?)?;
    let y = x_blend.matmul(&w_blend.transpose()?)?.reshape(dims)?;
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
        let q_x = QuantizedInput::new(x).unwrap().codes().unwrap().values(&compute).unwrap();
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
