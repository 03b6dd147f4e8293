//! NumPy arrays in, NumPy arrays out.

use numpy::{Element, PyArray, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::error::exception;

/// The elements of an array in row-major order, with its shape: in place where type and layout allow.
pub(crate) struct Elements<'py, T: Element> {
    array: PyReadonlyArrayDyn<'py, T>,
    pub(crate) shape: Vec<usize>,
}

impl<'py> Elements<'py, f32> {
    /// Floats of any width, strides and byte order, as float32.
    pub(crate) fn floats(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Self> {
        let array = as_array(object)?;
        if kind(&array)?.0 != "f" {
            let dtype = array.getattr("dtype")?.str()?;
            return Err(PyTypeError::new_err(format!("{name} must be an array of floats, not of {dtype}")));
        }
        Self::read(&array, "float32")
    }
}

impl<'py> Elements<'py, i8> {
    /// Signed bytes.
    pub(crate) fn bytes(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Self> {
        Self::exactly(name, object, ("i", 1), "int8")
    }
}

impl<'py> Elements<'py, u8> {
    /// Unsigned bytes.
    pub(crate) fn unsigned_bytes(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Self> {
        Self::exactly(name, object, ("u", 1), "uint8")
    }
}

impl<'py, T: Element> Elements<'py, T> {
    fn exactly(
        name: &str,
        object: &Bound<'py, PyAny>,
        (expected_kind, expected_size): (&str, usize),
        dtype: &str,
    ) -> PyResult<Self> {
        let array = as_array(object)?;
        let (kind, size) = kind(&array)?;
        if kind != expected_kind || size != expected_size {
            let got = array.getattr("dtype")?.str()?;
            return Err(PyTypeError::new_err(format!("{name} must be an array of {dtype}, not of {got}")));
        }
        Self::read(&array, dtype)
    }

    fn read(array: &Bound<'py, PyAny>, dtype: &str) -> PyResult<Self> {
        let array = array.py().import("numpy")?.call_method1("require", (array, dtype, "CA"))?;
        let array = array.cast::<PyArrayDyn<T>>()?.readonly();
        let shape = array.as_array().shape().to_vec();
        Ok(Self { array, shape })
    }

    /// All elements.
    pub(crate) fn values(&self) -> PyResult<&[T]> {
        Ok(self.array.as_slice()?)
    }

    /// Length of the last axis, which must not be empty.
    pub(crate) fn cols(&self, name: &str) -> PyResult<usize> {
        match self.shape.last() {
            Some(&cols) if cols > 0 => Ok(cols),
            _ => Err(exception("ShapeError", &format!("{name} has no elements along its last axis"))),
        }
    }

    /// Rows and columns of a matrix that is not empty.
    pub(crate) fn matrix(&self, name: &str) -> PyResult<(usize, usize)> {
        match self.shape[..] {
            [rows, cols] if rows > 0 && cols > 0 => Ok((rows, cols)),
            [_, _] => Err(exception("ShapeError", &format!("{name} is empty"))),
            _ => {
                let rank = self.shape.len();
                Err(exception("ShapeError", &format!("{name} must have 2 dimensions, not {rank}")))
            }
        }
    }
}

/// The kind of an array's elements, as NumPy names it: "f" for floats, "i" for signed integers.
pub(crate) fn kind(array: &Bound<'_, PyAny>) -> PyResult<(String, usize)> {
    let dtype = array.getattr("dtype")?;
    Ok((dtype.getattr("kind")?.extract()?, dtype.getattr("itemsize")?.extract()?))
}

/// `numpy.asarray(object)`.
pub(crate) fn as_array<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    object.py().import("numpy")?.call_method1("asarray", (object,))
}

/// A new array of `shape`.
pub(crate) fn to_numpy<'py, T: Element>(
    py: Python<'py>,
    values: Vec<T>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    PyArray::from_vec(py, values).reshape(shape.to_vec())
}
