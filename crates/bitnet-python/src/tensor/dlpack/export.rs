//! Tensors out, in capsules.

use std::ffi::CStr;
use std::ptr;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::{
    CPU, DataType, Description, IS_COPIED, Managed, ManagedVersioned, NAME, READ_ONLY, VERSION,
    VERSIONED_NAME, data_type,
};
use crate::error::Failure;

/// What a consumer holds: the structure first, which it knows, then what that points to.
#[repr(C)]
struct Exported<M> {
    managed: M,
    _shape: Vec<i64>,
    _strides: Vec<i64>,
    _tensor: bitnet_core::Tensor,
}

impl<M> Exported<M> {
    /// The structure on the heap, as a consumer gets it.
    fn leaked(
        tensor: bitnet_core::Tensor,
        dtype: DataType,
        managed: impl FnOnce(Description) -> M,
    ) -> *mut M {
        let shape: Vec<i64> = tensor.dims().iter().map(|&dim| dim as i64).collect();
        let strides: Vec<i64> = tensor.strides().iter().map(|&stride| stride as i64).collect();
        let (memory, offset) = tensor.storage();
        let size = tensor.dtype().size_bytes();
        let description = Description {
            data: memory.as_ptr().wrapping_add(offset * size).cast_mut().cast(),
            device_type: CPU.0,
            device_id: CPU.1,
            ndim: tensor.rank() as i32,
            dtype,
            shape: shape.as_ptr(),
            strides: strides.as_ptr(),
            byte_offset: 0,
        };
        let managed = managed(description);
        Box::into_raw(Box::new(Self { managed, _shape: shape, _strides: strides, _tensor: tensor })).cast()
    }
}

/// Frees what `Exported::leaked` made.
#[expect(unsafe_code, reason = "called by the consumer")]
unsafe extern "C" fn free<M>(managed: *mut M) {
    // SAFETY: the consumer calls it once, with the pointer it got, which is that of the whole.
    drop(unsafe { Box::from_raw(managed.cast::<Exported<M>>()) });
}

/// Frees a tensor that nobody has taken out of its capsule.
#[expect(unsafe_code, reason = "called by the interpreter")]
unsafe extern "C" fn free_capsule<M>(capsule: *mut ffi::PyObject) {
    for name in [NAME, VERSIONED_NAME] {
        // SAFETY: the interpreter gives the capsule it destroys, which holds an `Exported<M>` under one of the names
        // until a consumer renames it.
        unsafe {
            if ffi::PyCapsule_IsValid(capsule, name.as_ptr()) == 1 {
                free::<M>(ffi::PyCapsule_GetPointer(capsule, name.as_ptr()).cast());
            }
        }
    }
}

/// See `Tensor.__dlpack__`.
pub(in crate::tensor) fn export<'py>(
    py: Python<'py>,
    tensor: &bitnet_core::Tensor,
    max_version: Option<(u32, u32)>,
    device: Option<(i32, i32)>,
    copy: Option<bool>,
) -> Result<Bound<'py, PyCapsule>, Failure> {
    if device.is_some_and(|device| device != CPU) {
        return Err(PyBufferError::new_err("the tensor is on the CPU, device (1, 0)").into());
    }
    let Some(dtype) = data_type(tensor.dtype()) else {
        return Err(PyBufferError::new_err(
            "DLPack has no packed ternary; convert the tensor with .to(\"i8\")",
        )
        .into());
    };
    let is_versioned = max_version.is_some_and(|(major, _)| major >= VERSION.major);
    if !is_versioned && copy == Some(false) {
        let message = "a tensor is read-only, which a DLPack capsule before version 1.0 cannot say; copy it";
        return Err(PyBufferError::new_err(message).into());
    }
    let is_copy = copy.unwrap_or(!is_versioned);
    let tensor = if is_copy { tensor.copied()? } else { tensor.clone() };
    if !is_versioned {
        let managed =
            |description| Managed { description, context: ptr::null_mut(), deleter: Some(free::<Managed>) };
        return capsule::<Managed>(py, Exported::leaked(tensor, dtype, managed), NAME);
    }
    let managed = |description| ManagedVersioned {
        version: VERSION,
        context: ptr::null_mut(),
        deleter: Some(free::<ManagedVersioned>),
        flags: if is_copy { IS_COPIED } else { READ_ONLY },
        description,
    };
    capsule::<ManagedVersioned>(py, Exported::leaked(tensor, dtype, managed), VERSIONED_NAME)
}

#[expect(unsafe_code, reason = "makes a capsule of a C structure")]
fn capsule<'py, M>(
    py: Python<'py>,
    managed: *mut M,
    name: &'static CStr,
) -> Result<Bound<'py, PyCapsule>, Failure> {
    // SAFETY: the pointer is not null, the name is static; the capsule frees it unless a consumer takes it.
    let object = unsafe { ffi::PyCapsule_New(managed.cast(), name.as_ptr(), Some(free_capsule::<M>)) };
    // SAFETY: a new reference, or null with an exception set.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
    Ok(object.cast_into::<PyCapsule>().map_err(PyErr::from)?)
}
