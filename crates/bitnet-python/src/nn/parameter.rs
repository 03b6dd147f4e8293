//! `bitnet_rust.nn.Parameter`.

use bitnet_core::DType;
use bitnet_training::{Variable, nn};
use pyo3::PyClassInitializer;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::error::{Failure, exception};
use crate::tensor::Tensor;

/// A tensor that training changes: f32, with a gradient. Made of anything Tensor() takes, whose memory it does not share.
///
/// It is the one kind of tensor whose elements change, by optimizers and assign(); what was computed or viewed before
/// keeps the old ones. decays says whether weight decay pulls it to 0, by default if it has at least two dimensions:
/// norms and biases are spared. Raises DTypeError, GradientError for a tensor that has a gradient already.
#[pyclass(frozen, extends = Tensor, module = "bitnet_rust.nn")]
pub(crate) struct Parameter {
    decays: bool,
}

impl Parameter {
    /// A parameter of a layer.
    pub(super) fn of(py: Python<'_>, parameter: &nn::Parameter) -> Result<Py<Self>, Failure> {
        Ok(Py::new(py, Self::object(parameter.variable().clone(), parameter.is_decayed()))?)
    }

    fn object(variable: Variable, decays: bool) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Tensor::of_leaf(variable)).add_subclass(Self { decays })
    }

    /// The same parameter under a name, as optimizers take it.
    pub(crate) fn named(slf: &Bound<'_, Self>, name: String) -> Result<nn::Parameter, Failure> {
        Ok(nn::Parameter::of(name, Self::leaf(slf)?.clone(), slf.get().decays))
    }

    fn leaf<'a>(slf: &'a Bound<'_, Self>) -> Result<&'a Variable, Failure> {
        let missing = || exception("GradientError", "a parameter without a gradient");
        Ok(slf.as_super().get().as_variable().ok_or_else(missing)?)
    }
}

#[pymethods]
impl Parameter {
    #[new]
    #[pyo3(signature = (data, decays = None))]
    fn new(data: &Bound<'_, PyAny>, decays: Option<bool>) -> Result<PyClassInitializer<Self>, Failure> {
        let value = Tensor::copy_of(data)?;
        let decays = decays.unwrap_or(value.rank() > 1);
        Ok(Self::object(Variable::leaf(value)?, decays))
    }

    /// Whether weight decay pulls it to 0.
    #[getter]
    fn decays(&self) -> bool {
        self.decays
    }

    /// Replace the elements by those of anything Tensor() takes, of the same shape; the gradient stays. Raises ShapeError,
    /// DTypeError, GradientError.
    fn assign(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> Result<(), Failure> {
        Ok(Self::leaf(slf)?.set_value(Tensor::copy_of(data)?)?)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> Result<(Bound<'py, PyType>, Bound<'py, PyTuple>), Failure> {
        let value = Py::new(slf.py(), Tensor::from(Self::leaf(slf)?.value()))?;
        Ok((slf.get_type(), (value, slf.get().decays).into_pyobject(slf.py())?))
    }
}

impl Tensor {
    /// The elements of a tensor, array or lists as f32, in memory of their own. Floats of other widths are converted.
    pub(crate) fn copy_of(data: &Bound<'_, PyAny>) -> Result<bitnet_core::Tensor, Failure> {
        let value = Self::elements_of(data)?;
        if !value.dtype().is_float() {
            let expected = "floats";
            return Err(bitnet_core::Error::DType { expected, got: value.dtype() }.into());
        }
        Ok(value.to_dtype(DType::F32)?.copied()?)
    }
}
