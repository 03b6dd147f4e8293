//! Quantization, and the product of ternary weights and int8 activations.

mod calibrate;
mod codec;
mod int_matrix;
mod options;
mod quantization_report;

use bitnet_core::{FloatKernels, Isa, ThreadPool};
use bitnet_quant::{
    ActivationOptions, Granularity, QuantizedActivations, TernaryKernel, TernaryOptions, TernaryRule,
    quantize_activations_with, quantize_matrix, scaled_matmul,
};
use numpy::PyArrayDyn;
use pyo3::prelude::*;

use crate::array::{Elements, as_array, kind, to_numpy};
use crate::error::{Failure, exception};

pub(crate) use self::calibrate::{ErrorMetrics, Recommendation, Statistics, measure_error, recommend};
pub(crate) use self::codec::{formats, pack, packed_size, unpack};
pub(crate) use self::int_matrix::{IntMatrix, quantize_int};
pub(crate) use self::quantization_report::{LayerReport, QuantizationReport, report};

type CodesAndScales<'py> = (Bound<'py, PyArrayDyn<i8>>, Bound<'py, PyArrayDyn<f32>>);

/// Products worth the start of threads.
const MANY: usize = 1 << 22;

/// A matrix of codes in {-1, 0, +1} with its scales: W = codes * scale.
#[pyclass(frozen, module = "bitnet_rust")]
pub(crate) struct TernaryMatrix {
    inner: bitnet_quant::TernaryMatrix,
}

#[pymethods]
impl TernaryMatrix {
    /// codes is int8 [rows, cols], each -1, 0 or 1. scale is a number, an array [rows], or an array [rows, groups] of
    /// groups of so many columns, by default all of the same width. Raises ShapeError, OptionError, QuantizationError.
    #[new]
    #[pyo3(signature = (codes, scale, *, group = None))]
    fn new(
        codes: &Bound<'_, PyAny>,
        scale: &Bound<'_, PyAny>,
        group: Option<usize>,
    ) -> Result<Self, Failure> {
        let codes = Elements::bytes("codes", codes)?;
        let (rows, cols) = codes.matrix("codes")?;
        let scales = options::scales(scale, cols, group)?;
        Ok(Self { inner: bitnet_quant::TernaryMatrix::from_codes(rows, cols, codes.values()?, scales)? })
    }

    /// From packed codes, uint8 [ceil(rows / 4), cols], as Hugging Face checkpoints store them: byte (r, c) holds
    /// column c of rows r, r + R, r + 2R and r + 3R, lowest bits first, R = ceil(rows / 4), code = w + 1.
    ///
    /// Raises ShapeError, QuantizationError for a code 3. Source: transformers, integrations/bitnet.py.
    #[staticmethod]
    fn from_packed(packed: &Bound<'_, PyAny>, rows: usize, scale: f32) -> Result<Self, Failure> {
        let packed = Elements::unsigned_bytes("packed", packed)?;
        let (packed_rows, cols) = packed.matrix("packed")?;
        if packed_rows != rows.div_ceil(4) {
            let message = format!("packed has {packed_rows} rows; {rows} rows pack to {}", rows.div_ceil(4));
            return Err(exception("ShapeError", &message).into());
        }
        let packed = packed.values()?.to_vec().into();
        Ok(Self { inner: bitnet_quant::TernaryMatrix::from_packed(rows, cols, packed, scale)? })
    }

    /// The codes: int8 [rows, cols].
    #[getter]
    fn codes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<i8>>> {
        to_numpy(py, self.inner.codes(), &[self.inner.rows(), self.inner.cols()])
    }

    /// The packed codes: uint8 [ceil(rows / 4), cols].
    #[getter]
    fn packed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<u8>>> {
        to_numpy(py, self.inner.packed().to_vec(), &[self.inner.packed_rows(), self.inner.cols()])
    }

    /// What a code of 1 stands for. Raises QuantizationError when there are several scales: see scales.
    #[getter]
    fn scale(&self) -> Result<f32, Failure> {
        Ok(self.inner.one_scale()?)
    }

    /// All scales: float32 (), [rows] or [rows, groups].
    #[getter]
    fn scales<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let scales = self.inner.scales();
        options::shaped(py, scales.values().to_vec(), scales.granularity(), self.inner.rows())
    }

    /// What shares a scale: "tensor", "row", or the columns of a group.
    #[getter]
    fn granularity<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        options::granularity_name(py, self.inner.scales().granularity())
    }

    /// (rows, cols).
    #[getter]
    fn shape(&self) -> (usize, usize) {
        (self.inner.rows(), self.inner.cols())
    }

    /// codes * scale: float32 [rows, cols].
    fn dequantize<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let values = py.detach(|| self.inner.dequantize());
        to_numpy(py, values, &[self.inner.rows(), self.inner.cols()])
    }

    /// x W^T: [..., cols] -> [..., rows].
    ///
    /// Floats are quantized to int8 per token first and give float32, codes . x_q * scale / activation_scale, summed over
    /// the groups where there are some; int8 gives the exact int32 sums, without scales. Raises ShapeError, QuantizationError for a value that is not finite.
    fn matmul<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Failure> {
        let array = as_array(x)?;
        if kind(&array)? == ("i".to_owned(), 1) {
            let x = Elements::bytes("x", &array)?;
            let (shape, values) = (self.output_shape(&x)?, x.values()?);
            let sums = py.detach(|| self.exact(values))?;
            return Ok(to_numpy(py, sums, &shape)?.into_any());
        }
        let x = Elements::floats("x", &array)?;
        let (shape, values) = (self.output_shape(&x)?, x.values()?);
        let products = py.detach(|| self.scaled(values))?;
        Ok(to_numpy(py, products, &shape)?.into_any())
    }

    fn __repr__(&self) -> String {
        let (rows, cols) = self.shape();
        match self.inner.one_scale() {
            Ok(scale) => format!("TernaryMatrix({rows} x {cols}, scale {scale})"),
            Err(_) => format!("TernaryMatrix({rows} x {cols}, {})", self.inner.scales().granularity()),
        }
    }
}

impl TernaryMatrix {
    fn output_shape<T: numpy::Element>(&self, x: &Elements<'_, T>) -> PyResult<Vec<usize>> {
        let cols = x.cols("x")?;
        if cols != self.inner.cols() {
            let message = format!("x has {cols} columns, the matrix {}", self.inner.cols());
            return Err(exception("ShapeError", &message));
        }
        let mut shape = x.shape.clone();
        shape.pop();
        shape.push(self.inner.rows());
        Ok(shape)
    }

    fn exact(&self, x: &[i8]) -> Result<Vec<i32>, Failure> {
        let pool = pool(x.len() * self.inner.rows())?;
        let x = QuantizedActivations::from_codes(x, self.inner.cols());
        let mut out = vec![0; x.tokens() * self.inner.rows()];
        kernel()?.matmul_i32(&pool, &self.inner, &x, &mut out)?;
        Ok(out)
    }

    fn scaled(&self, x: &[f32]) -> Result<Vec<f32>, Failure> {
        let pool = pool(x.len() * self.inner.rows())?;
        let x = quantize(&pool, x, self.inner.cols())?;
        let mut out = vec![0.0; x.tokens() * self.inner.rows()];
        scaled_matmul(&kernel()?, &pool, &self.inner, &x, None, &mut out)?;
        Ok(out)
    }
}

/// Ternarise a matrix. By default by absmean: scale = max(mean|W|, 1e-5), codes = clip(round_half_even(W / scale), -1, 1).
///
/// rule "absmedian" takes the median of |W| instead; "threshold" (TWN) gives sign(W) where |W| > 0.7 mean|W|, else 0, and
/// the mean of those |W| as the scale; "sign" gives sign(W - mean(W)), no zeros, and mean|W|. granularity is "tensor",
/// "row" or the columns of a group; rounding, of absmean and absmedian, "half_even", "half_away" or "stochastic" with a
/// seed.
///
/// w is a float array [rows, cols] of any strides, taken as float32. Raises TypeError, ShapeError, OptionError,
/// QuantizationError for a value that is not finite. Sources: "The Era of 1-bit LLMs", arXiv 2402.17764; absmedian
/// 2407.09527; threshold 1605.04711; sign 2310.11453.
#[pyfunction]
#[pyo3(signature = (w, *, rule = "absmean", granularity = None, rounding = "half_even", seed = None))]
pub(crate) fn quantize_weights(
    py: Python<'_>,
    w: &Bound<'_, PyAny>,
    rule: &str,
    granularity: Option<&Bound<'_, PyAny>>,
    rounding: &str,
    seed: Option<u64>,
) -> Result<TernaryMatrix, Failure> {
    let options = TernaryOptions {
        rule: rule.parse::<TernaryRule>()?,
        granularity: granularity.map_or(Ok(Granularity::Tensor), |it| options::granularity(it, "row"))?,
        rounding: options::rounding(rounding, seed)?,
    };
    let w = Elements::floats("w", w)?;
    let ((_, cols), values) = (w.matrix("w")?, w.values()?);
    let inner =
        py.detach(|| Ok::<_, Failure>(quantize_matrix(&pool(values.len())?, values, cols, &options)?))?;
    Ok(TernaryMatrix { inner })
}

/// Quantize activations to int8. By default per token: scale = 127 / max(max|x|, 1e-5), codes = clip(round_half_even(x *
/// scale), -128, 127), so that x is about codes / scale.
///
/// granularity is "token", "tensor" or the columns of a group; rounding "half_even", "half_away" or "stochastic" with a
/// seed. clip keeps magnitudes up to it, percentile that share in 0..100 of them: what lies beyond is saturated.
///
/// x is a float array [..., n], taken as float32; returns int8 [..., n] and float32 scales [...], () for "tensor", or
/// [..., groups]. Raises TypeError, ShapeError, OptionError, QuantizationError for a value that is not finite. Source:
/// arXiv 2402.17764.
#[pyfunction]
#[pyo3(signature = (
    x, *, granularity = None, rounding = "half_even", seed = None, clip = None, percentile = None
))]
pub(crate) fn quantize_activations<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    granularity: Option<&Bound<'py, PyAny>>,
    rounding: &str,
    seed: Option<u64>,
    clip: Option<f32>,
    percentile: Option<f64>,
) -> Result<CodesAndScales<'py>, Failure> {
    let options = ActivationOptions {
        granularity: granularity.map_or(Ok(Granularity::Row), |it| options::granularity(it, "token"))?,
        rounding: options::rounding(rounding, seed)?,
        clip: options::clip(clip, percentile)?,
    };
    let x = Elements::floats("x", x)?;
    let (cols, values) = (x.cols("x")?, x.values()?);
    let (codes, scales) = py.detach(|| {
        let pool = pool(values.len())?;
        if options == ActivationOptions::default() {
            let quantized = quantize(&pool, values, cols)?;
            return Ok((quantized.codes(), quantized.scales().to_vec()));
        }
        Ok::<_, Failure>(quantize_activations_with(&pool, values, cols, &options)?)
    })?;
    let mut shape = x.shape.clone();
    shape.pop();
    match options.granularity {
        Granularity::Tensor => shape.clear(),
        Granularity::Row => {}
        Granularity::Group(group) => shape.push(cols.div_ceil(group)),
    }
    Ok((to_numpy(py, codes, &x.shape)?, to_numpy(py, scales, &shape)?))
}

fn quantize(pool: &ThreadPool, x: &[f32], cols: usize) -> Result<QuantizedActivations, Failure> {
    if let Some(at) = x.iter().position(|value| !value.is_finite()) {
        return Err(bitnet_quant::Error::NotFinite { row: at / cols }.into());
    }
    let mut quantized = QuantizedActivations::default();
    quantized.quantize(pool, &FloatKernels::new(Isa::selected()?)?, x, cols);
    Ok(quantized)
}

fn kernel() -> Result<TernaryKernel, Failure> {
    Ok(TernaryKernel::new(Isa::selected()?)?)
}

/// Threads for one call: none are kept, so that a process may fork between two.
fn pool(work: usize) -> Result<ThreadPool, Failure> {
    let threads = if work < MANY { 1 } else { ThreadPool::default_threads() };
    Ok(ThreadPool::new(threads)?)
}
