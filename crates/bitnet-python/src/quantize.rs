//! The two quantization rules of BitNet b1.58, and the product of what they give.

use bitnet_core::{FloatKernels, Isa, ThreadPool};
use bitnet_quant::{QuantizedActivations, TernaryKernel};
use numpy::PyArrayDyn;
use pyo3::prelude::*;

use crate::array::{Elements, as_array, bytes, floats, kind, to_numpy, unsigned_bytes};
use crate::error::{Failure, exception};

type CodesAndScales<'py> = (Bound<'py, PyArrayDyn<i8>>, Bound<'py, PyArrayDyn<f32>>);

/// Products worth the start of threads.
const MANY: usize = 1 << 22;

/// A matrix of codes in {-1, 0, +1} with one scale: W = codes * scale.
#[pyclass(frozen, module = "bitnet_rust")]
pub(crate) struct TernaryMatrix {
    inner: bitnet_quant::TernaryMatrix,
}

#[pymethods]
impl TernaryMatrix {
    /// codes is int8 [rows, cols], each -1, 0 or 1. Raises ShapeError, QuantizationError.
    #[new]
    fn new(codes: &Bound<'_, PyAny>, scale: f32) -> Result<Self, Failure> {
        let codes = bytes("codes", codes)?;
        let (rows, cols) = codes.matrix("codes")?;
        Ok(Self { inner: bitnet_quant::TernaryMatrix::from_codes(rows, cols, &codes.values, scale)? })
    }

    /// From packed codes, uint8 [ceil(rows / 4), cols], as Hugging Face checkpoints store them: byte (r, c) holds
    /// column c of rows r, r + R, r + 2R and r + 3R, lowest bits first, R = ceil(rows / 4), code = w + 1.
    ///
    /// Raises ShapeError, QuantizationError for a code 3. Source: transformers, integrations/bitnet.py.
    #[staticmethod]
    fn from_packed(packed: &Bound<'_, PyAny>, rows: usize, scale: f32) -> Result<Self, Failure> {
        let packed = unsigned_bytes("packed", packed)?;
        let (packed_rows, cols) = packed.matrix("packed")?;
        if packed_rows != rows.div_ceil(4) {
            let message = format!("packed has {packed_rows} rows; {rows} rows pack to {}", rows.div_ceil(4));
            return Err(exception("ShapeError", &message).into());
        }
        Ok(Self { inner: bitnet_quant::TernaryMatrix::from_packed(rows, cols, packed.values.into(), scale)? })
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

    /// What a code of 1 stands for.
    #[getter]
    fn scale(&self) -> f32 {
        self.inner.scale()
    }

    /// (rows, cols).
    #[getter]
    fn shape(&self) -> (usize, usize) {
        (self.inner.rows(), self.inner.cols())
    }

    /// codes * scale: float32 [rows, cols].
    fn dequantize<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let scale = self.inner.scale();
        let values = self.inner.codes().into_iter().map(|code| f32::from(code) * scale).collect();
        to_numpy(py, values, &[self.inner.rows(), self.inner.cols()])
    }

    /// x W^T: [..., cols] -> [..., rows].
    ///
    /// Floats are quantized to int8 per token first and give float32, codes . x_q * scale / activation_scale; int8
    /// gives the exact int32 sums. Raises ShapeError, QuantizationError for a value that is not finite.
    fn matmul<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Failure> {
        let array = as_array(x)?;
        if kind(&array)? == ("i".to_owned(), 1) {
            let x = bytes("x", &array)?;
            let shape = self.output_shape(&x)?;
            let sums = py.detach(|| self.exact(&x))?;
            return Ok(to_numpy(py, sums, &shape)?.into_any());
        }
        let x = floats("x", &array)?;
        let shape = self.output_shape(&x)?;
        let products = py.detach(|| self.scaled(&x))?;
        Ok(to_numpy(py, products, &shape)?.into_any())
    }

    fn __repr__(&self) -> String {
        format!("TernaryMatrix({} x {}, scale {})", self.inner.rows(), self.inner.cols(), self.inner.scale())
    }
}

impl TernaryMatrix {
    fn output_shape<T>(&self, x: &Elements<T>) -> PyResult<Vec<usize>> {
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

    fn exact(&self, x: &Elements<i8>) -> Result<Vec<i32>, Failure> {
        let pool = pool(x.values.len() * self.inner.rows())?;
        let x = QuantizedActivations::from_codes(&x.values, self.inner.cols());
        let mut out = vec![0; x.tokens() * self.inner.rows()];
        kernel()?.matmul_i32(&pool, &self.inner, &x, &mut out)?;
        Ok(out)
    }

    fn scaled(&self, x: &Elements<f32>) -> Result<Vec<f32>, Failure> {
        let pool = pool(x.values.len() * self.inner.rows())?;
        let x = quantize(&pool, x, self.inner.cols())?;
        let mut out = vec![0.0; x.tokens() * self.inner.rows()];
        kernel()?.matmul(&pool, &self.inner, &x, None, &mut out)?;
        Ok(out)
    }
}

/// Ternarise a matrix by absmean: scale = max(mean|W|, 1e-5), codes = clip(round_half_even(W / scale), -1, 1).
///
/// w is a float array [rows, cols] of any strides, taken as float32. Raises TypeError, ShapeError, QuantizationError
/// for a value that is not finite. Source: "The Era of 1-bit LLMs", arXiv 2402.17764.
#[pyfunction]
pub(crate) fn quantize_weights(py: Python<'_>, w: &Bound<'_, PyAny>) -> Result<TernaryMatrix, Failure> {
    let w = floats("w", w)?;
    let (rows, cols) = w.matrix("w")?;
    let inner = py.detach(|| {
        let read_row = |row: usize, out: &mut [f32]| out.copy_from_slice(&w.values[row * cols..][..cols]);
        Ok::<_, Failure>(bitnet_quant::quantize_weights(&pool(w.values.len())?, rows, cols, read_row)?)
    })?;
    Ok(TernaryMatrix { inner })
}

/// Quantize activations to int8 per token: scale = 127 / max(max|x|, 1e-5), codes = clip(round_half_even(x * scale),
/// -128, 127), so that x is about codes / scale.
///
/// x is a float array [..., n], taken as float32; returns int8 [..., n] and float32 scales [...]. Raises TypeError,
/// ShapeError, QuantizationError for a value that is not finite. Source: arXiv 2402.17764.
#[pyfunction]
pub(crate) fn quantize_activations<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
) -> Result<CodesAndScales<'py>, Failure> {
    let x = floats("x", x)?;
    let cols = x.cols("x")?;
    let quantized = py.detach(|| quantize(&pool(x.values.len())?, &x, cols))?;
    let codes = to_numpy(py, quantized.codes(), &x.shape)?;
    let scales = to_numpy(py, quantized.scales().to_vec(), &x.shape[..x.shape.len() - 1])?;
    Ok((codes, scales))
}

fn quantize(pool: &ThreadPool, x: &Elements<f32>, cols: usize) -> Result<QuantizedActivations, Failure> {
    if let Some(at) = x.values.iter().position(|value| !value.is_finite()) {
        return Err(bitnet_quant::Error::NotFinite { row: at / cols }.into());
    }
    let mut quantized = QuantizedActivations::default();
    quantized.quantize(pool, &FloatKernels::new(Isa::selected()?)?, &x.values, cols);
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
