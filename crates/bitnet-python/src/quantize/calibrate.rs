//! Errors of approximations, statistics of activations, and the precision that follows.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bitnet_core::{FloatKernels, Isa};
use bitnet_quant::{ErrorMeter, LayerErrors, Precision, Threshold};
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

use super::pool;
use crate::array::{Elements, to_numpy};
use crate::error::{Failure, exception};

/// How far an approximation is from a reference. Made by measure_error() and recommend().
#[pyclass(frozen, module = "bitnet_rust.quant")]
#[derive(Clone, Copy)]
pub(crate) struct ErrorMetrics {
    inner: bitnet_quant::ErrorMetrics,
}

impl ErrorMetrics {
    pub(super) fn new(inner: bitnet_quant::ErrorMetrics) -> Self {
        Self { inner }
    }
}

/// Errors by the names of precisions, in order.
pub(super) fn errors_by_name<'py>(
    py: Python<'py>,
    errors: &[(Precision, bitnet_quant::ErrorMetrics)],
) -> PyResult<Bound<'py, PyDict>> {
    let by_name = PyDict::new(py);
    for (precision, error) in errors {
        by_name.set_item(precision.to_string(), ErrorMetrics::new(*error))?;
    }
    Ok(by_name)
}

#[pymethods]
impl ErrorMetrics {
    /// Mean of the squared differences.
    #[getter]
    fn mse(&self) -> f64 {
        self.inner.mse
    }

    /// Signal to quantization noise, 10 log10(sum x^2 / sum (x - y)^2): infinite without a difference.
    #[getter]
    fn sqnr_db(&self) -> f64 {
        self.inner.sqnr_db
    }

    /// x . y / (|x| |y|); 1 when both are zero, 0 when one is.
    #[getter]
    fn cosine(&self) -> f64 {
        self.inner.cosine
    }

    /// The largest difference.
    #[getter]
    fn max_abs(&self) -> f64 {
        self.inner.max_abs
    }

    fn __repr__(&self) -> String {
        let bitnet_quant::ErrorMetrics { mse, sqnr_db, cosine, max_abs } = self.inner;
        format!(
            "ErrorMetrics(mse={mse:.3e}, sqnr_db={sqnr_db:.2}, cosine={cosine:.6}, max_abs={max_abs:.3e})"
        )
    }
}

/// How far approximation is from reference, float arrays of the same shape. Raises TypeError, ShapeError.
#[pyfunction]
pub(crate) fn measure_error(
    py: Python<'_>,
    reference: &Bound<'_, PyAny>,
    approximation: &Bound<'_, PyAny>,
) -> Result<ErrorMetrics, Failure> {
    let reference = Elements::floats("reference", reference)?;
    let approximation = Elements::floats("approximation", approximation)?;
    if reference.shape != approximation.shape {
        let message =
            format!("reference has shape {:?}, approximation {:?}", reference.shape, approximation.shape);
        return Err(exception("ShapeError", &message).into());
    }
    let (x, y) = (reference.values()?, approximation.values()?);
    let inner = py.detach(|| {
        let mut meter = ErrorMeter::default();
        meter.add(x, y);
        meter.metrics()
    });
    Ok(ErrorMetrics { inner })
}

/// Moments and a histogram of all values that were added, in memory that does not grow with them.
#[pyclass(frozen, module = "bitnet_rust.quant")]
pub(crate) struct Statistics {
    inner: Mutex<bitnet_quant::Statistics>,
}

impl Statistics {
    pub(super) fn with(inner: bitnet_quant::Statistics) -> Self {
        Self { inner: Mutex::new(inner) }
    }

    fn get(&self) -> MutexGuard<'_, bitnet_quant::Statistics> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Statistics {
    #[new]
    fn new() -> Self {
        Self { inner: Mutex::default() }
    }

    /// Takes in a float array of any shape. Raises TypeError, QuantizationError, with nothing taken, for a value that
    /// is not finite.
    fn add(&self, x: &Bound<'_, PyAny>) -> Result<(), Failure> {
        let x = Elements::floats("x", x)?;
        Ok(self.get().add(x.values()?)?)
    }

    /// Number of values.
    #[getter]
    fn count(&self) -> u64 {
        self.get().count()
    }

    /// The least value; 0 of none.
    #[getter]
    fn min(&self) -> f32 {
        self.get().min()
    }

    /// The largest value; 0 of none.
    #[getter]
    fn max(&self) -> f32 {
        self.get().max()
    }

    /// max|x|.
    #[getter]
    fn absmax(&self) -> f32 {
        self.get().absmax()
    }

    /// mean|x|.
    #[getter]
    fn absmean(&self) -> f64 {
        self.get().absmean()
    }

    /// The mean.
    #[getter]
    fn mean(&self) -> f64 {
        self.get().mean()
    }

    /// The standard deviation, with the number of values as the divisor.
    #[getter]
    fn std(&self) -> f64 {
        self.get().std()
    }

    /// Share of values that are 0.
    #[getter]
    fn zero_share(&self) -> f64 {
        self.get().zero_share()
    }

    /// About the magnitude that the share q, in 0..1, of all values does not exceed; right up to an eighth.
    ///
    /// Raises OptionError for another q.
    fn quantile(&self, q: f64) -> Result<f32, Failure> {
        Ok(self.get().histogram().quantile(q)?)
    }

    /// The bins of |x| that are not empty, smallest first: their starts, their ends and how many values each has, as
    /// arrays float32, float32 and uint64. A bin is an eighth of a power of two wide.
    fn histogram<'py>(&self, py: Python<'py>) -> PyResult<Histogram<'py>> {
        let bins: Vec<_> = self.get().histogram().bins().collect();
        let edges = |edge: fn(&std::ops::Range<f32>) -> f32| bins.iter().map(|(bin, _)| edge(bin)).collect();
        let counts = bins.iter().map(|(_, count)| *count).collect();
        let len = [bins.len()];
        Ok((
            to_numpy(py, edges(|bin| bin.start), &len)?,
            to_numpy(py, edges(|bin| bin.end), &len)?,
            to_numpy(py, counts, &len)?,
        ))
    }

    fn __repr__(&self) -> String {
        let it = self.get();
        let (count, mean, std, absmax) = (it.count(), it.mean(), it.std(), it.absmax());
        format!("Statistics({count} values, mean {mean:.4}, std {std:.4}, absmax {absmax:.4})")
    }
}

type Histogram<'py> = (Bound<'py, PyArrayDyn<f32>>, Bound<'py, PyArrayDyn<f32>>, Bound<'py, PyArrayDyn<u64>>);

/// The precision that recommend() picked for a layer.
#[pyclass(frozen, module = "bitnet_rust.quant")]
pub(crate) struct Recommendation {
    inner: bitnet_quant::Recommendation,
}

#[pymethods]
impl Recommendation {
    /// Name of the layer.
    #[getter]
    fn name(&self) -> &str {
        &self.inner.layer.name
    }

    /// The fewest bits that meet the threshold: "absmean", ..., "int8", or "float" when none do.
    #[getter]
    fn precision(&self) -> String {
        self.inner.precision.to_string()
    }

    /// Bits of a weight at that precision, by information: 1.58 for ternary ones, 32 for floats.
    #[getter]
    fn bits(&self) -> f64 {
        self.inner.precision.bits()
    }

    /// The error at every precision that was tried, by name.
    #[getter]
    fn errors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        errors_by_name(py, &self.inner.layer.errors)
    }

    fn __repr__(&self) -> String {
        format!("Recommendation({:?}, {:?})", self.inner.layer.name, self.precision())
    }
}

/// For each layer the precision of fewest bits whose error meets a threshold, the most sensitive layers first.
///
/// weights maps names to float arrays [rows, cols]. inputs maps the same names, or some of them, to activations
/// [..., cols] of a calibration run: the error then is that of the layer's outputs x W^T, else that of the weights.
/// Thresholds are the least signal to noise in dB and the least cosine, one of them at least. Layers are ranked by the
/// signal to noise of the first precision. Raises OptionError, ShapeError, QuantizationError for values not finite.
#[pyfunction]
#[pyo3(signature = (
    weights, inputs = None, *, min_sqnr_db = None, min_cosine = None, precisions = None
))]
pub(crate) fn recommend(
    py: Python<'_>,
    weights: &Bound<'_, PyMapping>,
    inputs: Option<&Bound<'_, PyMapping>>,
    min_sqnr_db: Option<f64>,
    min_cosine: Option<f64>,
    precisions: Option<Vec<String>>,
) -> Result<Vec<Recommendation>, Failure> {
    if min_sqnr_db.is_none() && min_cosine.is_none() {
        return Err(exception("OptionError", "give min_sqnr_db, min_cosine or both").into());
    }
    let precisions = precisions.unwrap_or_else(|| ["absmean", "int4", "int8"].map(str::to_owned).to_vec());
    let precisions: Vec<Precision> =
        precisions.iter().map(|name| name.parse()).collect::<Result<_, bitnet_quant::Error>>()?;
    let mut layers = Vec::new();
    for item in weights.items()? {
        let (name, w): (String, Bound<'_, PyAny>) = item.extract()?;
        let x = inputs.filter(|inputs| inputs.contains(&name).unwrap_or(false));
        let x = x.map(|inputs| inputs.get_item(&name)).transpose()?;
        layers.push(layer_errors(py, &name, &w, x.as_ref(), &precisions)?);
    }
    let threshold = Threshold {
        min_sqnr_db: min_sqnr_db.unwrap_or(f64::NEG_INFINITY),
        min_cosine: min_cosine.unwrap_or(-1.0),
    };
    let picked = bitnet_quant::recommend(&layers, &threshold);
    Ok(picked.into_iter().map(|inner| Recommendation { inner }).collect())
}

fn layer_errors(
    py: Python<'_>,
    name: &str,
    w: &Bound<'_, PyAny>,
    x: Option<&Bound<'_, PyAny>>,
    precisions: &[Precision],
) -> Result<LayerErrors, Failure> {
    let w = Elements::floats(name, w)?;
    let (_, cols) = w.matrix(name)?;
    let x = x.map(|x| Elements::floats(name, x)).transpose()?;
    if let Some(got) = x.as_ref().map(|x| x.cols(name)).transpose()?.filter(|got| *got != cols) {
        let message = format!("{name}: inputs have {got} columns, the weights {cols}");
        return Err(exception("ShapeError", &message).into());
    }
    let (w, x) = (w.values()?, x.as_ref().map(Elements::values).transpose()?);
    py.detach(|| {
        let (pool, floats) = (pool(w.len())?, FloatKernels::new(Isa::selected()?)?);
        Ok(LayerErrors::measure(&pool, &floats, name, (w, cols), x, precisions)?)
    })
}
