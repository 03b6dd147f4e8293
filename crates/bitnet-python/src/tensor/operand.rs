//! What may stand beside a tensor: a tensor, a Python number, a NumPy array or number.

use bitnet_core::tensor::{Operand, Scalar};
use bitnet_core::{DType, Tensor as Core};
use numpy::PyUntypedArray;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt};

use super::recorded::{Recorded, no_gradient};
use super::{Kind, Tensor, import};
use crate::error::Failure;

/// The other side of an operator: an error of its own if it could stand there, were it in range or of a type that
/// tensors have. Anything else is not extracted, so that Python asks the other side.
pub(super) struct Other(pub(super) PyResult<Value>);

/// A tensor or a number, as it is now.
pub(super) struct Value {
    held: Held,
    /// Of a tensor whose operations are noted.
    recorded: Option<Recorded>,
}

enum Held {
    Tensor(Core),
    Scalar(Scalar),
}

impl Value {
    fn of(tensor: &Tensor) -> Self {
        let held = Held::Tensor(tensor.value().into_owned());
        Self { held, recorded: tensor.recorded().cloned() }
    }

    fn plain(held: Held) -> Self {
        Self { held, recorded: None }
    }

    /// What it is beside a tensor, without the notes.
    pub(super) fn operand(&self) -> Operand<'_> {
        match &self.held {
            Held::Tensor(tensor) => Operand::Tensor(tensor),
            Held::Scalar(scalar) => Operand::Scalar(*scalar),
        }
    }

    /// The number of elements.
    pub(super) fn len(&self) -> usize {
        if let Held::Tensor(tensor) = &self.held { tensor.len() } else { 1 }
    }

    /// The number, if it is one.
    pub(super) fn scalar(&self) -> Option<Scalar> {
        if let Held::Scalar(scalar) = self.held { Some(scalar) } else { None }
    }

    pub(super) fn recorded(&self) -> Option<&Recorded> {
        self.recorded.as_ref()
    }

    /// For an operation without a gradient.
    pub(super) fn constant(self, operation: &str) -> Result<Self, Failure> {
        if self.recorded.is_some() { Err(no_gradient(operation)) } else { Ok(self) }
    }

    /// As a tensor, which a number becomes beside one of `dtype`.
    pub(super) fn beside(self, dtype: DType) -> Result<Tensor, Failure> {
        match self.recorded {
            Some(recorded) => Ok(Tensor(Kind::Recorded(recorded))),
            None => Ok(self.operand().beside(dtype)?.into()),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Other {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(tensor) = object.cast::<Tensor>() {
            return Ok(Self(Ok(Value::of(tensor.get()))));
        }
        if is_number(&object) {
            let number = number(&object).map(Held::Scalar).map_err(PyErr::from);
            return Ok(Self(number.map(Value::plain)));
        }
        let generic = object.py().import("numpy")?.getattr("generic")?;
        if object.cast::<PyUntypedArray>().is_ok() || object.is_instance(&generic)? {
            let tensor = import::copied(&object, None).map(Held::Tensor).map(Value::plain);
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
