//! `Tensor.zeros` and its like.

use bitnet_core::tensor::Scalar;
use bitnet_core::{DType, Tensor as Core};
use bitnet_training::Variable;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::operand::number;
use super::recorded::record;
use super::{Tensor, compute, dlpack, dtype, import};
use crate::error::Failure;

/// One length, or several.
pub(super) struct Dims(Vec<usize>);

impl From<Dims> for Vec<usize> {
    fn from(dims: Dims) -> Self {
        dims.0
    }
}

impl FromPyObject<'_, '_> for Dims {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if let Ok(dim) = object.extract() {
            return Ok(Self(vec![dim]));
        }
        let wrong =
            |_| PyTypeError::new_err(format!("a shape is one length or several, not {}", object.as_any()));
        object.extract().map(Self).map_err(wrong)
    }
}

fn dtype_or(given: Option<&Bound<'_, PyAny>>, default: DType) -> Result<DType, Failure> {
    given.map_or(Ok(default), dtype)
}

/// The type that a number alone has.
fn own_dtype(scalar: Scalar) -> DType {
    match scalar {
        Scalar::Bool(_) => DType::Bool,
        Scalar::Int(_) => DType::I64,
        Scalar::Float(_) => DType::F32,
    }
}

/// Several tensors as one.
fn joined(
    py: Python<'_>,
    tensors: Vec<Py<Tensor>>,
    plain: impl FnOnce(&[&Core]) -> bitnet_core::Result<Core> + Send,
    noted: impl FnOnce(&[&Variable]) -> bitnet_training::Result<Variable> + Send,
) -> Result<Tensor, Failure> {
    let tensors: Vec<Tensor> = tensors.into_iter().map(|tensor| tensor.get().clone()).collect();
    if tensors.iter().all(|tensor| tensor.recorded().is_none()) {
        let values: Vec<_> = tensors.iter().map(Tensor::value).collect();
        return compute(py, 0, || plain(&values.iter().map(|value| &**value).collect::<Vec<_>>()));
    }
    let variables: Vec<Variable> = tensors.iter().map(Tensor::variable).collect::<Result<_, _>>()?;
    record(py, 0, &tensors.iter().collect::<Vec<_>>(), || noted(&variables.iter().collect::<Vec<_>>()))
}

#[pymethods]
impl Tensor {
    /// A tensor over the memory of a NumPy array, without a copy.
    ///
    /// The array lives as long as the tensor. Writing to it changes the tensor, and must not happen while an operation
    /// reads it. Raises DTypeError for a type that a tensor does not have, such as float64: bn.Tensor(array) converts it.
    #[staticmethod]
    fn from_numpy(array: &Bound<'_, PyAny>) -> Result<Self, Failure> {
        import::shared(array)
    }

    /// A tensor over the memory of an object with __dlpack__, without a copy: of PyTorch, JAX, MLX, NumPy and others.
    ///
    /// The memory lives as long as the tensor; what from_numpy says of writing holds. Raises DeviceError for memory that
    /// is not the CPU's, DTypeError.
    #[staticmethod]
    fn from_dlpack(object: &Bound<'_, PyAny>) -> Result<Self, Failure> {
        dlpack::import(object)
    }

    /// Zeros of a shape, which is one length or several.
    #[staticmethod]
    #[pyo3(signature = (shape, dtype = None))]
    fn zeros(py: Python<'_>, shape: Dims, dtype: Option<&Bound<'_, PyAny>>) -> Result<Self, Failure> {
        let dtype = dtype_or(dtype, DType::F32)?;
        compute(py, 0, || Core::zeros(Vec::from(shape), dtype))
    }

    /// Ones of a shape.
    #[staticmethod]
    #[pyo3(signature = (shape, dtype = None))]
    fn ones(py: Python<'_>, shape: Dims, dtype: Option<&Bound<'_, PyAny>>) -> Result<Self, Failure> {
        let dtype = dtype_or(dtype, DType::F32)?;
        compute(py, 0, || Core::ones(Vec::from(shape), dtype))
    }

    /// The same number everywhere; without dtype its own: f32, i64 or bool.
    #[staticmethod]
    #[pyo3(signature = (shape, value, dtype = None))]
    fn full(
        py: Python<'_>,
        shape: Dims,
        value: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
    ) -> Result<Self, Failure> {
        let value = number(value)?;
        let dtype = dtype_or(dtype, own_dtype(value))?;
        compute(py, 0, || Core::full(Vec::from(shape), value, dtype))
    }

    /// start, start + step, ... short of stop; with one number, 0, 1, ... short of that. i64 for integers, else f32.
    #[staticmethod]
    #[pyo3(signature = (start, stop = None, step = None, dtype = None))]
    fn arange(
        py: Python<'_>,
        start: &Bound<'_, PyAny>,
        stop: Option<&Bound<'_, PyAny>>,
        step: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
    ) -> Result<Self, Failure> {
        let first = number(start)?;
        let (start, stop) = match stop {
            Some(stop) => (first, number(stop)?),
            None => (Scalar::Int(0), first),
        };
        let step = step.map_or(Ok(Scalar::Int(1)), number)?;
        let is_real = [start, stop, step].iter().any(|scalar| matches!(scalar, Scalar::Float(_)));
        let dtype = dtype_or(dtype, if is_real { DType::F32 } else { DType::I64 })?;
        compute(py, 0, || Core::arange(start, stop, step, dtype))
    }

    /// Tensors one after another along an existing dimension; types are promoted. Raises ShapeError.
    #[staticmethod]
    #[pyo3(signature = (tensors, axis = 0))]
    fn concatenate(py: Python<'_>, tensors: Vec<Py<Self>>, axis: isize) -> Result<Self, Failure> {
        joined(py, tensors, |x| Core::concatenate(x, axis), |x| Variable::concatenate(x, axis))
    }

    /// Tensors of one shape along a new dimension; types are promoted. Raises ShapeError.
    #[staticmethod]
    #[pyo3(signature = (tensors, axis = 0))]
    fn stack(py: Python<'_>, tensors: Vec<Py<Self>>, axis: isize) -> Result<Self, Failure> {
        joined(py, tensors, |x| Core::stack(x, axis), |x| Variable::stack(x, axis))
    }
}
