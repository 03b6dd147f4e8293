//! What may stand beside a tensor: a tensor, a Python number, a NumPy array or number.

use bitnet_core::DType;
use bitnet_core::tensor::{Operand, Scalar};
use numpy::PyUntypedArray;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt};

use super::{Tensor, import};
use crate::error::Failure;

/// The other side of an operator: an error of its own if it could stand there, were it in range or of a type that
/// tensors have. Anything else is not extracted, so that Python asks the other side.
pub(super) struct Other(pub(super) PyResult<Value>);

/// A tensor or a number.
pub(super) enum Value {
    Tensor(bitnet_core::Tensor),
    Scalar(Scalar),
}

impl Value {
    pub(super) fn operand(&self) -> Operand<'_> {
        match self {
            Self::Tensor(tensor) => Operand::Tensor(tensor),
            Self::Scalar(scalar) => Operand::Scalar(*scalar),
        }
    }

    /// The number of elements.
    pub(super) fn len(&self) -> usize {
        if let Self::Tensor(tensor) = self { tensor.len() } else { 1 }
    }
}

impl Other {
    /// As a tensor beside one of `dtype`.
    pub(super) fn beside(self, dtype: DType) -> Result<bitnet_core::Tensor, Failure> {
        Ok(self.0?.operand().beside(dtype)?)
    }
}

impl<'py> FromPyObject<'_, 'py> for Other {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(tensor) = object.cast::<Tensor>() {
            return Ok(Self(Ok(Value::Tensor(tensor.get().inner.clone()))));
        }
        if is_number(&object) {
            return Ok(Self(number(&object).map(Value::Scalar).map_err(PyErr::from)));
        }
        let generic = object.py().import("numpy")?.getattr("generic")?;
        if object.cast::<PyUntypedArray>().is_ok() || object.is_instance(&generic)? {
            let tensor = import::copied(&object, None).map(|tensor| Value::Tensor(tensor.inner));
            return Ok(Self(tensor.map_err(PyErr::from)));
        }
        Err(PyTypeError::new_err("neither a tensor nor a number"))
    }
}

fn is_number(object: &Bound<'_, PyAny>) -> bool {
    object.is_instance_of::<PyBool>()
        || object.is_instance_of::<PyInt>()
        || object.is_instance_of::<PyFloat>()
}

/// A Python number.
pub(super) fn number(object: &Bound<'_, PyAny>) -> Result<Scalar, Failure> {
    if let Ok(value) = object.cast::<PyBool>() {
        return Ok(Scalar::Bool(value.is_true()));
    }
    if object.is_instance_of::<PyInt>() {
        let too_large = |_| PyOverflowError::new_err(format!("{object} is out of range for i64"));
        return Ok(Scalar::Int(object.extract().map_err(too_large)?));
    }
    Ok(Scalar::Float(object.extract()?))
}
