//! Reductions.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::Tensor;
use crate::error::Failure;

/// One dimension, or several.
struct Axes(Vec<isize>);

impl FromPyObject<'_, '_> for Axes {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if let Ok(axis) = object.extract() {
            return Ok(Self(vec![axis]));
        }
        let wrong =
            |_| PyTypeError::new_err(format!("axis is one integer or several, not {}", object.as_any()));
        object.extract().map(Self).map_err(wrong)
    }
}

/// As the operations take them.
fn named(axes: Option<Axes>) -> Option<Vec<isize>> {
    axes.map(|axes| axes.0)
}

#[pymethods]
impl Tensor {
    /// The sum along axis, one or several, or all without it: floats keep their type, all others give i64, which wraps.
    ///
    /// Floats are added in float64 and rounded once. With keepdims a reduced dimension stays as 1. Raises ShapeError.
    #[pyo3(signature = (axis = None, *, keepdims = false))]
    fn sum(&self, py: Python<'_>, axis: Option<Axes>, keepdims: bool) -> Result<Self, Failure> {
        let axes = named(axis);
        self.map(py, |x| x.sum(axes.as_deref(), keepdims), |x| x.sum(axes.as_deref(), keepdims))
    }

    /// The mean along axis, NaN of no elements: floats keep their type, all others give f32.
    #[pyo3(signature = (axis = None, *, keepdims = false))]
    fn mean(&self, py: Python<'_>, axis: Option<Axes>, keepdims: bool) -> Result<Self, Failure> {
        let axes = named(axis);
        self.map(py, |x| x.mean(axes.as_deref(), keepdims), |x| x.mean(axes.as_deref(), keepdims))
    }

    /// The greatest element along axis; NaN where there is one. Raises ShapeError of no elements.
    #[pyo3(signature = (axis = None, *, keepdims = false))]
    fn max(&self, py: Python<'_>, axis: Option<Axes>, keepdims: bool) -> Result<Self, Failure> {
        let axes = named(axis);
        self.map(py, |x| x.max(axes.as_deref(), keepdims), |x| x.max(axes.as_deref(), keepdims))
    }

    /// The least element along axis; NaN where there is one. Raises ShapeError of no elements.
    #[pyo3(signature = (axis = None, *, keepdims = false))]
    fn min(&self, py: Python<'_>, axis: Option<Axes>, keepdims: bool) -> Result<Self, Failure> {
        let axes = named(axis);
        self.map(py, |x| x.min(axes.as_deref(), keepdims), |x| x.min(axes.as_deref(), keepdims))
    }

    /// The index of the first greatest element, or NaN, along axis, or in row-major order: i64. Raises ShapeError.
    #[pyo3(signature = (axis = None, *, keepdims = false))]
    fn argmax(&self, py: Python<'_>, axis: Option<isize>, keepdims: bool) -> Result<Self, Failure> {
        self.observe(py, |x| x.argmax(axis, keepdims))
    }

    /// The index of the first least element, or NaN, along axis, or in row-major order: i64. Raises ShapeError.
    #[pyo3(signature = (axis = None, *, keepdims = false))]
    fn argmin(&self, py: Python<'_>, axis: Option<isize>, keepdims: bool) -> Result<Self, Failure> {
        self.observe(py, |x| x.argmin(axis, keepdims))
    }

    /// Whether any element along axis is other than 0: bool.
    #[pyo3(signature = (axis = None, *, keepdims = false))]
    fn any(&self, py: Python<'_>, axis: Option<Axes>, keepdims: bool) -> Result<Self, Failure> {
        let axes = named(axis);
        self.observe(py, |x| x.any(axes.as_deref(), keepdims))
    }

    /// Whether all elements along axis are other than 0: bool.
    #[pyo3(signature = (axis = None, *, keepdims = false))]
    fn all(&self, py: Python<'_>, axis: Option<Axes>, keepdims: bool) -> Result<Self, Failure> {
        let axes = named(axis);
        self.observe(py, |x| x.all(axes.as_deref(), keepdims))
    }
}
