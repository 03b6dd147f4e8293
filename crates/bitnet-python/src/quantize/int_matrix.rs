//! Matrices of 2, 4 and 8 bits.

use bitnet_quant::IntOptions;
use numpy::PyArrayDyn;
use pyo3::prelude::*;

use super::{options, pool};
use crate::array::{Elements, to_numpy};
use crate::error::Failure;

/// A matrix of whole numbers of 2, 4 or 8 bits: W = (codes - zero_points) * scales. Made by quantize_int().
#[pyclass(frozen, module = "bitnet_rust.quant")]
pub(crate) struct IntMatrix {
    inner: bitnet_quant::IntMatrix,
}

#[pymethods]
impl IntMatrix {
    /// The codes: int8 [rows, cols].
    #[getter]
    fn codes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<i8>>> {
        to_numpy(py, self.inner.codes(), &[self.inner.rows(), self.inner.cols()])
    }

    /// code + 2^(bits - 1), lowest bits first: uint8 [rows, ceil(cols * bits / 8)].
    #[getter]
    fn packed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<u8>>> {
        let packed = self.inner.packed().to_vec();
        let row_bytes = packed.len() / self.inner.rows();
        to_numpy(py, packed, &[self.inner.rows(), row_bytes])
    }

    /// What a step of the codes stands for: float32 (), [rows] or [rows, groups].
    #[getter]
    fn scales<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let scales = self.inner.scales();
        options::shaped(py, scales.values().to_vec(), scales.granularity(), self.inner.rows())
    }

    /// The codes of 0: int8, in the shape of scales.
    #[getter]
    fn zero_points<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<i8>>> {
        let granularity = self.inner.scales().granularity();
        options::shaped(py, self.inner.zero_points().to_vec(), granularity, self.inner.rows())
    }

    /// Bits of a code.
    #[getter]
    fn bits(&self) -> u8 {
        self.inner.bits()
    }

    /// "tensor", "row", or the columns of a group.
    #[getter]
    fn granularity<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        options::granularity_name(py, self.inner.scales().granularity())
    }

    /// (rows, cols).
    #[getter]
    fn shape(&self) -> (usize, usize) {
        (self.inner.rows(), self.inner.cols())
    }

    /// (codes - zero_points) * scales: float32 [rows, cols].
    fn dequantize<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let values = py.detach(|| self.inner.dequantize());
        to_numpy(py, values, &[self.inner.rows(), self.inner.cols()])
    }

    fn __repr__(&self) -> String {
        let (rows, cols) = self.shape();
        format!(
            "IntMatrix({rows} x {cols}, {} bits, {})",
            self.inner.bits(),
            self.inner.scales().granularity()
        )
    }
}

/// Quantize a matrix to whole numbers of 2, 4 or 8 bits.
///
/// Symmetric: scale = max(max|W|, 1e-5) / q with q = 2^(bits - 1) - 1, codes = clip(round(W / scale), -q, q). Not
/// symmetric: scale = (high - low) / (2^bits - 1) of the range with 0 in it, zero_point = -q - 1 - round(low / scale),
/// codes = clip(round(W / scale) + zero_point, -q - 1, q). W / scale is computed as W * (1 / scale).
///
/// w is a float array [rows, cols] of any strides, taken as float32. granularity is "tensor", "row" or the columns of a
/// group; rounding "half_even", "half_away" or "stochastic" with a seed; clip the largest magnitude that is kept,
/// percentile the share in 0..100 of values that is. Raises TypeError, ShapeError, OptionError, QuantizationError for a
/// value that is not finite.
#[pyfunction]
#[pyo3(signature = (
    w, *, bits = 8, symmetric = true, granularity = None, rounding = "half_even", seed = None, clip = None,
    percentile = None
))]
#[expect(clippy::too_many_arguments, reason = "keyword-only options")]
pub(crate) fn quantize_int(
    py: Python<'_>,
    w: &Bound<'_, PyAny>,
    bits: u8,
    symmetric: bool,
    granularity: Option<&Bound<'_, PyAny>>,
    rounding: &str,
    seed: Option<u64>,
    clip: Option<f32>,
    percentile: Option<f64>,
) -> Result<IntMatrix, Failure> {
    let mut int_options = IntOptions { is_symmetric: symmetric, ..IntOptions::new(bits) };
    if let Some(granularity) = granularity {
        int_options.granularity = options::granularity(granularity, "row")?;
    }
    int_options.rounding = options::rounding(rounding, seed)?;
    int_options.clip = options::clip(clip, percentile)?;
    let w = Elements::floats("w", w)?;
    let ((rows, cols), values) = (w.matrix("w")?, w.values()?);
    let inner = py.detach(|| {
        let read_row = |row: usize, out: &mut [f32]| out.copy_from_slice(&values[row * cols..][..cols]);
        let pool = pool(values.len())?;
        Ok::<_, Failure>(bitnet_quant::IntMatrix::quantize(&pool, rows, cols, &int_options, read_row)?)
    })?;
    Ok(IntMatrix { inner })
}
