//! From NumPy arrays.

use bitnet_core::tensor::reach;
use bitnet_core::{Buffer, DType};
use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::Tensor;
use crate::array::as_array;
use crate::error::{Failure, exception};

/// The memory of an array, which lives as long as this does.
struct Memory {
    start: usize,
    len: usize,
    _array: Py<PyAny>,
}

impl AsRef<[u8]> for Memory {
    #[expect(unsafe_code, reason = "the memory is NumPy's")]
    fn as_ref(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: `shared` has measured the array; NumPy neither frees nor moves it while the reference is held.
        unsafe { std::slice::from_raw_parts(self.start as *const u8, self.len) }
    }
}

/// The type of an array's elements, if it is one of ours.
fn known_dtype(array: &Bound<'_, PyAny>) -> PyResult<Option<DType>> {
    let dtype = array.getattr("dtype")?;
    if !dtype.getattr("isnative")?.extract::<bool>()? {
        return Ok(None);
    }
    Ok(dtype.getattr("name")?.extract::<String>()?.parse().ok())
}

/// A tensor over the memory of an array.
pub(super) fn shared(object: &Bound<'_, PyAny>) -> Result<Tensor, Failure> {
    let Ok(array) = object.cast::<PyUntypedArray>() else {
        let class = object.get_type();
        let message = format!("from_numpy wants a NumPy array, not {}", class.name()?);
        return Err(PyTypeError::new_err(message).into());
    };
    let Some(dtype) = known_dtype(object)? else {
        let name = object.getattr("dtype")?.str()?;
        let message = format!("a tensor cannot share an array of {name}; bn.Tensor(array) converts it");
        return Err(exception("DTypeError", &message).into());
    };
    Ok(view(array, dtype)?.into())
}

#[expect(unsafe_code, reason = "reads the array's pointer")]
fn view(array: &Bound<'_, PyUntypedArray>, dtype: DType) -> Result<bitnet_core::Tensor, Failure> {
    let size = dtype.size_bytes();
    let (shape, strides) = (array.shape(), array.strides());
    if shape.contains(&0) {
        return Ok(bitnet_core::Tensor::zeros(shape, dtype)?);
    }
    if strides.iter().any(|stride| stride % size as isize != 0) {
        let message = "the strides of the array are no multiples of its elements; bn.Tensor(array) copies it";
        return Err(PyValueError::new_err(message).into());
    }
    let strides: Vec<isize> = strides.iter().map(|stride| stride / size as isize).collect();
    let (before, after) = reach(shape, &strides).ok_or(bitnet_core::Error::ShapeOverflow(shape.into()))?;
    // SAFETY: the pointer is to an array object that is alive.
    let first = unsafe { (*array.as_array_ptr()).fields.data } as usize;
    let start = first - before * size;
    let memory =
        Memory { start, len: (before + after + 1) * size, _array: array.clone().into_any().unbind() };
    Ok(bitnet_core::Tensor::strided(dtype, shape, strides, before, Buffer::from_owner(memory))?)
}

/// A tensor with the elements of anything NumPy makes an array of, in memory of its own.
pub(super) fn copied(
    object: &Bound<'_, PyAny>,
    wanted: Option<DType>,
) -> Result<bitnet_core::Tensor, Failure> {
    let array = as_array(object)?;
    let array = match known_dtype(&array)? {
        Some(_) => array,
        None => array.call_method1("astype", (nearest(&array, wanted)?,))?,
    };
    let Some(dtype) = known_dtype(&array)? else {
        return Err(PyTypeError::new_err("NumPy gave another type than asked for").into());
    };
    let array = array.py().import("numpy")?.call_method1("require", (array, None::<u8>, ["C", "ALIGNED"]))?;
    Ok(view(array.cast::<PyUntypedArray>().map_err(PyErr::from)?, dtype)?.copied()?)
}

/// The NumPy type of ours that elements of another are best held in.
fn nearest(array: &Bound<'_, PyAny>, wanted: Option<DType>) -> Result<&'static str, Failure> {
    let dtype = array.getattr("dtype")?;
    let (kind, size): (String, usize) =
        (dtype.getattr("kind")?.extract()?, dtype.getattr("itemsize")?.extract()?);
    Ok(match (kind.as_str(), size) {
        ("f", 2) => "float16",
        ("f", _) => "float32",
        ("i" | "u", 2) | ("i", 4) => "int32",
        ("u", 4) | ("i", 8) => "int64",
        // What a large one becomes is for the caller to say.
        ("u", 8) if wanted.is_some_and(DType::is_float) => "float32",
        ("u", 8) if wanted.is_some() => "int64",
        _ => {
            let message = format!("a tensor does not hold {}", dtype.str()?);
            return Err(exception("DTypeError", &message).into());
        }
    })
}
