//! NumPy arrays in, NumPy arrays out.

use numpy::{Element, PyArray, PyArrayDyn, PyArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::IntoPyDict;

use crate::error::exception;

/// The elements of an array in row-major order, with its shape.
pub(crate) struct Elements<T> {
    pub(crate) values: Vec<T>,
    pub(crate) shape: Vec<usize>,
}

impl<T> Elements<T> {
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

/// Floats of any width, strides and byte order, as float32.
pub(crate) fn floats(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Elements<f32>> {
    let array = as_array(object)?;
    if kind(&array)?.0 != "f" {
        let dtype = array.getattr("dtype")?.str()?;
        return Err(PyTypeError::new_err(format!("{name} must be an array of floats, not of {dtype}")));
    }
    elements(&array, "float32")
}

/// Signed bytes.
pub(crate) fn bytes(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Elements<i8>> {
    exactly(name, object, ("i", 1), "int8")
}

/// Unsigned bytes.
pub(crate) fn unsigned_bytes(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Elements<u8>> {
    exactly(name, object, ("u", 1), "uint8")
}

fn exactly<T: Element + Copy>(
    name: &str,
    object: &Bound<'_, PyAny>,
    (expected_kind, expected_size): (&str, usize),
    dtype: &str,
) -> PyResult<Elements<T>> {
    let array = as_array(object)?;
    let (kind, size) = kind(&array)?;
    if kind != expected_kind || size != expected_size {
        let got = array.getattr("dtype")?.str()?;
        return Err(PyTypeError::new_err(format!("{name} must be an array of {dtype}, not of {got}")));
    }
    elements(&array, dtype)
}

fn elements<T: Element + Copy>(array: &Bound<'_, PyAny>, dtype: &str) -> PyResult<Elements<T>> {
    let py = array.py();
    let kwargs = [("dtype", dtype), ("order", "C")].into_py_dict(py)?;
    let array = py.import("numpy")?.call_method("asarray", (array,), Some(&kwargs))?;
    let array = array.cast::<PyArrayDyn<T>>()?.readonly();
    Ok(Elements { values: array.as_slice()?.to_vec(), shape: array.as_array().shape().to_vec() })
}

/// A new array of `shape`.
pub(crate) fn to_numpy<'py, T: Element>(
    py: Python<'py>,
    values: Vec<T>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    PyArray::from_vec(py, values).reshape(shape.to_vec())
}
