//! To NumPy, to PyTorch and its like, and into pickles.

use bitnet_core::DType;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyTuple, PyType};

use super::{Tensor, dlpack};
use crate::error::{Failure, exception};

/// An array over the memory of a tensor.
pub(super) fn as_array<'py>(tensor: &Bound<'py, Tensor>) -> PyResult<Bound<'py, PyAny>> {
    tensor.py().import("numpy")?.call_method1("asarray", (tensor,))
}

/// NumPy's code for a type. Errors for those it does not have.
fn type_code(dtype: DType) -> PyResult<&'static str> {
    Ok(match dtype {
        DType::F32 => "<f4",
        DType::F16 => "<f2",
        DType::I8 => "|i1",
        DType::U8 => "|u1",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::F64 => "<f8",
        DType::Bool => "|b1",
        DType::BF16 => return no_type(dtype, "f32"),
        DType::Ternary => return no_type(dtype, "i8"),
    })
}

fn no_type(dtype: DType, instead: &str) -> PyResult<&'static str> {
    let message = format!("NumPy has no {dtype}; convert the tensor with .to(\"{instead}\")");
    Err(exception("DTypeError", &message))
}

#[pymethods]
impl Tensor {
    /// The memory as NumPy reads it; the array holds the tensor.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>, Failure> {
        let x = self.constant("numpy()")?;
        let dtype = x.dtype();
        let (memory, offset) = x.storage();
        let strides = x.strides().iter().map(|stride| stride * dtype.size_bytes() as isize);
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", type_code(dtype)?)?;
        interface.set_item("shape", self.shape(py)?)?;
        interface.set_item("strides", PyTuple::new(py, strides.collect::<Vec<_>>())?)?;
        interface.set_item("data", (memory.as_ptr().addr() + offset * dtype.size_bytes(), true))?;
        Ok(interface)
    }

    /// numpy.asarray(self): read-only and without a copy, but for another dtype or with copy=True.
    #[pyo3(signature = (dtype = None, copy = None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> Result<Bound<'py, PyAny>, Failure> {
        type_code(slf.get().constant("numpy()")?.dtype())?;
        let array = as_array(slf)?;
        let own = array.getattr("dtype")?;
        let dtype = match dtype {
            Some(dtype) => slf.py().import("numpy")?.call_method1("dtype", (dtype,))?,
            None => own.clone(),
        };
        let is_same = dtype.eq(&own)?;
        match copy {
            Some(false) if !is_same => {
                Err(PyValueError::new_err(format!("{own} to {dtype} takes a copy")).into())
            }
            None | Some(false) if is_same => Ok(array),
            _ => Ok(array.call_method1("astype", (dtype,))?),
        }
    }

    /// A NumPy array over the memory of the tensor, as numpy.asarray(self): read-only. Raises DTypeError for bf16.
    fn numpy<'py>(slf: &Bound<'py, Self>) -> Result<Bound<'py, PyAny>, Failure> {
        Self::__array__(slf, None, None)
    }

    /// Where the memory is, for DLPack: the CPU, as (1, 0).
    #[expect(clippy::unused_self, reason = "a method by DLPack's definition")]
    fn __dlpack_device__(&self) -> (i32, i32) {
        dlpack::CPU
    }

    /// The memory as a DLPack capsule, read-only.
    ///
    /// A consumer that asks for max_version 1 or later shares it. An earlier capsule cannot say that memory is read-only:
    /// it gets a copy, or BufferError with copy=False. Source: https://dmlc.github.io/dlpack/latest/python_spec.html.
    #[pyo3(signature = (*, stream = None, max_version = None, dl_device = None, copy = None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> Result<Bound<'py, PyCapsule>, Failure> {
        if stream.is_some() {
            return Err(PyTypeError::new_err("the CPU has no streams: stream must be None").into());
        }
        let value = self.constant("DLPack")?;
        dlpack::export(py, &value, max_version, dl_device, copy)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> Result<(Bound<'py, PyType>, Bound<'py, PyTuple>), Failure> {
        let x = slf.get().constant("a pickle")?;
        // NumPy pickles arrays.
        let array = as_array(&Bound::new(slf.py(), slf.get().visible()?)?)?;
        Ok((slf.get_type(), (array, x.dtype().name()).into_pyobject(slf.py())?))
    }
}
