//! Views.

use bitnet_core::Shape;
use bitnet_training::Variable;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::Tensor;
use super::create::Dims;
use crate::error::Failure;

/// Numbers given one by one, or as one sequence.
fn spread<'py, T: FromPyObjectOwned<'py>>(args: &Bound<'py, PyTuple>) -> PyResult<Vec<T>> {
    let is_one = args.len() == 1
        && args.get_item(0)?.hasattr("__len__")?
        && args.get_item(0)?.extract::<isize>().is_err();
    let items = if is_one { args.get_item(0)? } else { args.clone().into_any() };
    items.try_iter()?.map(|item| item?.extract().map_err(Into::into)).collect()
}

#[pymethods]
impl Tensor {
    /// The same elements in row-major order under other dimensions, given as numbers or as one tuple; one may be -1.
    ///
    /// A view where the strides allow it, else a copy. Raises ShapeError.
    #[pyo3(signature = (*shape))]
    fn reshape(&self, shape: &Bound<'_, PyTuple>) -> Result<Self, Failure> {
        let shape = &Shape::inferred(&spread::<isize>(shape)?, self.value().len())?;
        self.viewed(|x| x.reshape(shape.clone()), |x| x.reshape(shape.clone()))
    }

    /// The dimensions in another order, given as numbers or as one tuple. Raises ShapeError.
    #[pyo3(signature = (*axes))]
    fn permute(&self, axes: &Bound<'_, PyTuple>) -> Result<Self, Failure> {
        let axes = spread::<isize>(axes)?;
        self.viewed(|x| x.permute(&axes), |x| x.permute(&axes))
    }

    /// Two dimensions exchanged. Raises ShapeError.
    fn swapaxes(&self, a: isize, b: isize) -> Result<Self, Failure> {
        self.viewed(|x| x.swap_axes(a, b), |x| x.swap_axes(a, b))
    }

    /// All dimensions in reverse order.
    #[getter]
    #[expect(non_snake_case, reason = "NumPy's name")]
    fn T(&self) -> Result<Self, Failure> {
        self.viewed(bitnet_core::Tensor::transpose, Variable::transpose)
    }

    /// With a new dimension of 1 at place axis of the result. Raises ShapeError.
    pub(super) fn unsqueeze(&self, axis: isize) -> Result<Self, Failure> {
        self.viewed(|x| x.unsqueeze(axis), |x| x.unsqueeze(axis))
    }

    /// Without dimension axis, which must be 1; without all that are when none is named. Raises ShapeError.
    #[pyo3(signature = (axis = None))]
    fn squeeze(&self, axis: Option<isize>) -> Result<Self, Failure> {
        self.viewed(|x| x.squeeze(axis), |x| x.squeeze(axis))
    }

    /// Stretched to shape: new dimensions in front, and those of 1 repeated, at a stride of 0. Raises ShapeError.
    fn broadcast_to(&self, shape: Dims) -> Result<Self, Failure> {
        let shape = Vec::from(shape);
        self.viewed(|x| x.broadcast_to(&shape[..]), |x| x.broadcast_to(&shape[..]))
    }

    /// The tensor with its elements in row-major order without gaps: itself where it is so, else a copy.
    fn contiguous(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, bitnet_core::Tensor::contiguous, Variable::contiguous)
    }

    /// A contiguous tensor with memory of its own.
    fn copy(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, bitnet_core::Tensor::copied, Variable::copied)
    }
}
