//! Operations of layers and losses.

use std::sync::Arc;

use bitnet_core::DType;
use bitnet_inference::activation::Activation;
use bitnet_inference::rope::{RopeScaling, RopeTable};
use bitnet_training::Variable;
use bitnet_training::autograd::{self, Estimator, QuantizedInput, Segments};
use pyo3::prelude::*;

use crate::error::{Failure, exception};
use crate::tensor::{Tensor, record};

/// Multiplications that take as long as an element of other operations.
const PRODUCTS: usize = 16;

/// y = Q(x) Q(W)^T by the integer kernel that inference runs, the same bits: [..., out] of x [..., in], weight [out, in].
///
/// Q(W) is ternary by absmean, Q(x) int8 by absmax of each token. Backwards dx = dy Q(W), dW = dy^T Q(x), the derivative of
/// rounding being 1 (straight through). clip makes that 0 for weights beyond clip mean|W|. With blend below 1,
/// W + blend (Q(W) - W) and the same of x are multiplied as floats, to convert a model by and by. Raises ShapeError,
/// OptionError, QuantizationError for numbers that are not finite. Source: arXiv 2402.17764.
#[pyfunction]
#[pyo3(signature = (x, weight, *, clip = None, blend = 1.0))]
pub(crate) fn bit_linear(
    py: Python<'_>,
    x: &Bound<'_, Tensor>,
    weight: &Bound<'_, Tensor>,
    clip: Option<f32>,
    blend: f32,
) -> Result<Tensor, Failure> {
    let estimator = match clip {
        Some(_) if blend != 1.0 => {
            return Err(exception("OptionError", "clip and blend exclude each other").into());
        }
        Some(limit) => Estimator::Clipped { limit },
        None if blend == 1.0 => Estimator::Plain,
        None => Estimator::Ramp { lambda: blend },
    };
    let (x, weight) = (x.get(), weight.get());
    let (input, w) = (x.variable()?, weight.variable()?);
    let outputs = weight.value().dims().first().copied().unwrap_or(1);
    let work = x.value().len().saturating_mul(outputs) / PRODUCTS;
    record(py, work, &[x, weight], || autograd::bit_linear(&QuantizedInput::new(&input)?, &w, estimator))
}

/// The rows of weight [vocabulary, width] that ids name: [*ids.shape, width].
///
/// ids are integers: a tensor, an array or lists. The gradient of a row is the sum over its uses. Raises OutOfRangeError.
#[pyfunction]
pub(crate) fn embedding(
    py: Python<'_>,
    ids: &Bound<'_, PyAny>,
    weight: &Bound<'_, Tensor>,
) -> Result<Tensor, Failure> {
    let Ids { ids, mut dims } = Ids::read("ids", ids, None)?;
    let weight = weight.get();
    let table = weight.variable()?;
    dims.push(table.dims().last().copied().unwrap_or(1));
    let work = dims.iter().product();
    record(py, work, &[weight], || autograd::embedding(&table, &ids)?.reshape(dims))
}

/// The mean over the rows of log(sum_v e^(z_v)) - z_target: a scalar, of logits z [..., classes].
///
/// targets are integers, [...]: a tensor, an array or lists. Those that are ignore_index do not count. Raises ShapeError,
/// OutOfRangeError, DataError where no target counts.
#[pyfunction]
#[pyo3(signature = (logits, targets, *, ignore_index = None))]
pub(crate) fn cross_entropy(
    py: Python<'_>,
    logits: &Bound<'_, Tensor>,
    targets: &Bound<'_, PyAny>,
    ignore_index: Option<i64>,
) -> Result<Tensor, Failure> {
    let logits = logits.get();
    let targets = Ids::read("targets", targets, ignore_index)?;
    let z = rows(&logits.variable()?, &targets, "logits")?;
    record(py, logits.value().len(), &[logits], || autograd::cross_entropy(&z, &targets.ids))
}

/// cross_entropy(h @ weight.T, targets) in little memory: logits are computed for some tokens at a time.
///
/// h is [..., width], weight [vocabulary, width], as the head of a language model has it. Raises as cross_entropy().
#[pyfunction]
#[pyo3(signature = (h, weight, targets, *, ignore_index = None))]
pub(crate) fn linear_cross_entropy(
    py: Python<'_>,
    h: &Bound<'_, Tensor>,
    weight: &Bound<'_, Tensor>,
    targets: &Bound<'_, PyAny>,
    ignore_index: Option<i64>,
) -> Result<Tensor, Failure> {
    let (h, weight) = (h.get(), weight.get());
    let targets = Ids::read("targets", targets, ignore_index)?;
    let (x, w) = (rows(&h.variable()?, &targets, "h")?, weight.variable()?);
    let vocab_size = w.dims().first().copied().unwrap_or(1);
    let work = h.value().len().saturating_mul(vocab_size) / PRODUCTS;
    record(py, work, &[h, weight], || autograd::linear_cross_entropy(&x, &w, &targets.ids))
}

/// Every head of x [tokens, heads, head_dim] turned to the position of its token, as inference does.
///
/// Pairs (i, i + head_dim / 2) turn by position * theta^(-2 i / head_dim). lengths are those of the documents that lie one
/// behind another in x, whose positions begin at 0; by default it is one. Raises ShapeError, OptionError.
/// Source: arXiv 2104.09864.
#[pyfunction]
#[pyo3(signature = (x, *, lengths = None, theta = 10_000.0))]
pub(crate) fn rope(
    py: Python<'_>,
    x: &Bound<'_, Tensor>,
    lengths: Option<Vec<usize>>,
    theta: f64,
) -> Result<Tensor, Failure> {
    let x = x.get();
    let variable = x.variable()?;
    let segments = segments(&variable, lengths)?;
    let head_dim = variable.dims().last().copied().unwrap_or(0);
    if !(theta > 0.0 && theta.is_finite()) || head_dim == 0 || head_dim % 2 == 1 {
        let message = format!("rope needs theta above 0 and an even head_dim, not {theta} and {head_dim}");
        return Err(exception("OptionError", &message).into());
    }
    record(py, x.value().len(), &[x], || {
        let table = RopeTable::new(theta, &RopeScaling::None, head_dim, segments.longest());
        autograd::rope(&variable, &Arc::new(table), &segments)
    })
}

/// Causal attention of every token to those up to it in its document, softmax(scale q k^T) v: [tokens, heads, head_dim].
///
/// q is [tokens, heads, head_dim], k and v are [tokens, kv_heads, head_dim]; neighbouring heads share keys and values.
/// lengths are those of the documents that lie one behind another, by default it is one; scale is 1 / sqrt(head_dim).
/// Nothing of size tokens^2 is kept. Raises ShapeError, OptionError. Source: arXiv 2205.14135.
#[pyfunction]
#[pyo3(signature = (q, k, v, *, lengths = None, scale = None))]
pub(crate) fn attention(
    py: Python<'_>,
    q: &Bound<'_, Tensor>,
    k: &Bound<'_, Tensor>,
    v: &Bound<'_, Tensor>,
    lengths: Option<Vec<usize>>,
    scale: Option<f32>,
) -> Result<Tensor, Failure> {
    let [q, k, v] = [q, k, v].map(Bound::get);
    let (a, b, c) = (q.variable()?, k.variable()?, v.variable()?);
    let segments = segments(&a, lengths)?;
    let head_dim = a.dims().last().copied().unwrap_or(1);
    let scale = scale.unwrap_or(1.0 / (head_dim as f32).sqrt());
    let work = q.value().len().saturating_mul(segments.longest()) / PRODUCTS;
    record(py, work, &[q, k, v], || autograd::attention(&a, &b, &c, &segments, scale))
}

/// The documents that the tokens of x are of.
fn segments(x: &Variable, lengths: Option<Vec<usize>>) -> Result<Segments, Failure> {
    let tokens = x.dims().first().copied().unwrap_or(0);
    Ok(Segments::new(lengths.unwrap_or_else(|| vec![tokens]))?)
}

/// max(x, 0)^2: f32.
#[pyfunction]
pub(crate) fn relu2(py: Python<'_>, x: &Bound<'_, Tensor>) -> Result<Tensor, Failure> {
    activated(py, x, Activation::Relu2)
}

/// x (1 + erf(x / sqrt 2)) / 2, or with approximate="tanh" x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2: f32.
///
/// Source: arXiv 1606.08415.
#[pyfunction]
#[pyo3(signature = (x, *, approximate = "none"))]
pub(crate) fn gelu(py: Python<'_>, x: &Bound<'_, Tensor>, approximate: &str) -> Result<Tensor, Failure> {
    match approximate {
        "none" => activated(py, x, Activation::Gelu),
        "tanh" => activated(py, x, Activation::GeluTanh),
        other => {
            let message = format!("approximate must be none or tanh, not {other}");
            Err(exception("OptionError", &message).into())
        }
    }
}

fn activated(py: Python<'_>, x: &Bound<'_, Tensor>, activation: Activation) -> Result<Tensor, Failure> {
    let (tensor, variable) = (x.get(), x.get().variable()?);
    record(py, tensor.value().len(), &[tensor], || variable.activated(activation))
}

/// `[rows, width]` of `[.., width]` where the other dimensions are those of the targets.
fn rows(x: &Variable, targets: &Ids, what: &str) -> Result<Variable, Failure> {
    let dims = x.dims();
    match dims.split_last() {
        Some((&width, rows)) if rows == targets.dims => Ok(x.reshape([targets.ids.len(), width])?),
        _ => {
            let message = format!("{what} of shape {dims:?} beside targets of shape {:?}", targets.dims);
            Err(exception("ShapeError", &message).into())
        }
    }
}

/// Integers that name rows, with their shape.
struct Ids {
    ids: Vec<u32>,
    dims: Vec<usize>,
}

impl Ids {
    /// Those that are `ignored` become [`autograd::IGNORED`].
    fn read(what: &str, object: &Bound<'_, PyAny>, ignored: Option<i64>) -> Result<Self, Failure> {
        let tensor = Tensor::elements_of(object)?;
        if tensor.dtype().is_float() || matches!(tensor.dtype(), DType::Bool | DType::Ternary) {
            return Err(bitnet_core::Error::DType { expected: "integers", got: tensor.dtype() }.into());
        }
        let id = |id: i64| match u32::try_from(id) {
            _ if Some(id) == ignored => Ok(autograd::IGNORED),
            Ok(id) if id != autograd::IGNORED => Ok(id),
            _ => Err(exception("OutOfRangeError", &format!("{what}: {id} names no row"))),
        };
        let all = tensor.to_dtype(DType::I64)?.to_vec::<i64>()?;
        let ids = all.into_iter().map(id).collect::<Result<_, _>>()?;
        Ok(Self { ids, dims: tensor.dims().to_vec() })
    }
}
