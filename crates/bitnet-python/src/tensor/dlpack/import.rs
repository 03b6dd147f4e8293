//! Tensors of other libraries, out of capsules.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

use bitnet_core::tensor::reach;
use bitnet_core::{Buffer, DType};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};

use super::super::Tensor;
use super::{
    CPU, DataType, Description, Managed, ManagedVersioned, NAME, PINNED, USED_NAME, USED_VERSIONED_NAME,
    VERSION, VERSIONED_NAME, data_type,
};
use crate::error::{Failure, exception};

/// Memory of another library, given back when this goes.
struct Imported<M: Release> {
    managed: NonNull<M>,
    start: usize,
    len: usize,
}

#[expect(unsafe_code, reason = "DLPack allows it")]
// SAFETY: the memory is read only, and a deleter may be called from any thread.
unsafe impl<M: Release> Send for Imported<M> {}
#[expect(unsafe_code, reason = "DLPack allows it")]
// SAFETY: as above.
unsafe impl<M: Release> Sync for Imported<M> {}

impl<M: Release> AsRef<[u8]> for Imported<M> {
    #[expect(unsafe_code, reason = "the memory is another library's")]
    fn as_ref(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the producer describes this much memory, and keeps it until its deleter is called.
        unsafe { std::slice::from_raw_parts(self.start as *const u8, self.len) }
    }
}

impl<M: Release> Drop for Imported<M> {
    fn drop(&mut self) {
        M::release(self.managed);
    }
}

/// A structure that a producer made.
trait Release {
    /// Calls its deleter, once.
    fn release(managed: NonNull<Self>);
}

macro_rules! release {
    ($($type:ident),*) => {$(
        impl Release for $type {
            #[expect(unsafe_code, reason = "calls the producer")]
            fn release(managed: NonNull<Self>) {
                // SAFETY: the structure was taken out of its capsule and lives until this call.
                unsafe {
                    if let Some(deleter) = managed.as_ref().deleter {
                        deleter(managed.as_ptr());
                    }
                }
            }
        }
    )*};
}

release!(Managed, ManagedVersioned);

/// See `Tensor.from_dlpack`.
pub(in crate::tensor) fn import(object: &Bound<'_, PyAny>) -> Result<Tensor, Failure> {
    if !object.hasattr("__dlpack__")? || !object.hasattr("__dlpack_device__")? {
        let message =
            format!("from_dlpack wants an object with __dlpack__, not {}", object.get_type().name()?);
        return Err(PyTypeError::new_err(message).into());
    }
    let (device, _): (i32, i32) = object.call_method0("__dlpack_device__")?.extract()?;
    if device != CPU.0 && !PINNED.contains(&device) {
        let message = format!("the memory is on DLPack device {device}, not on the CPU; copy it there first");
        return Err(exception("DeviceError", &message).into());
    }
    let kwargs = PyDict::new(object.py());
    kwargs.set_item("max_version", (VERSION.major, VERSION.minor))?;
    let capsule = match object.call_method("__dlpack__", (), Some(&kwargs)) {
        // A producer from before version 1.0.
        Err(error) if error.is_instance_of::<PyTypeError>(object.py()) => object.call_method0("__dlpack__"),
        capsule => capsule,
    }?;
    taken(&capsule.cast_into::<PyCapsule>().map_err(PyErr::from)?)
}

/// The tensor in a capsule, which is its no longer.
#[expect(unsafe_code, reason = "takes a C structure out of a capsule")]
fn taken(capsule: &Bound<'_, PyCapsule>) -> Result<Tensor, Failure> {
    let take = |name: &'static CStr, used: &'static CStr| -> Option<NonNull<c_void>> {
        // SAFETY: the capsule is alive; its pointer is asked for under the name it has; the new name is static.
        unsafe {
            if ffi::PyCapsule_IsValid(capsule.as_ptr(), name.as_ptr()) == 0 {
                return None;
            }
            let pointer = NonNull::new(ffi::PyCapsule_GetPointer(capsule.as_ptr(), name.as_ptr()));
            ffi::PyCapsule_SetName(capsule.as_ptr(), used.as_ptr());
            pointer
        }
    };
    if let Some(managed) = take(VERSIONED_NAME, USED_VERSIONED_NAME) {
        let managed = managed.cast::<ManagedVersioned>();
        // SAFETY: a capsule of this name holds this structure, whose first fields no version changes.
        let (version, description) =
            unsafe { (managed.as_ref().version, &raw const managed.as_ref().description) };
        let memory = Imported { managed, start: 0, len: 0 };
        if version.major != VERSION.major {
            let message = format!("DLPack {}.{} is not known here", version.major, version.minor);
            return Err(PyBufferError::new_err(message).into());
        }
        // SAFETY: `memory` keeps the structure.
        return tensor(memory, unsafe { &*description });
    }
    if let Some(managed) = take(NAME, USED_NAME) {
        let managed = managed.cast::<Managed>();
        // SAFETY: a capsule of this name holds this structure.
        let description = unsafe { &raw const managed.as_ref().description };
        // SAFETY: the memory keeps the structure.
        return tensor(Imported { managed, start: 0, len: 0 }, unsafe { &*description });
    }
    Err(PyValueError::new_err("the DLPack capsule is used up, or is none").into())
}

fn tensor<M: Release + 'static>(
    mut memory: Imported<M>,
    description: &Description,
) -> Result<Tensor, Failure> {
    let Some(dtype) = DType::ALL.into_iter().find(|dtype| data_type(*dtype) == Some(description.dtype))
    else {
        let DataType { code, bits, lanes } = description.dtype;
        let message = format!("a tensor does not hold DLPack type {code} of {bits} bits and {lanes} lanes");
        return Err(exception("DTypeError", &message).into());
    };
    let (shape, strides) = layout(description)?;
    if shape.contains(&0) {
        return Ok(bitnet_core::Tensor::zeros(shape, dtype)?.into());
    }
    let size = dtype.size_bytes();
    let (before, after) =
        reach(&shape, &strides).ok_or_else(|| bitnet_core::Error::ShapeOverflow(shape.clone().into()))?;
    memory.start = description.data.addr() + description.byte_offset as usize - before * size;
    memory.len = (before + after + 1) * size;
    Ok(bitnet_core::Tensor::strided(dtype, shape, strides, before, Buffer::from_owner(memory))?.into())
}

/// Dimensions and strides, which are row-major where there are none.
#[expect(unsafe_code, reason = "reads C arrays")]
fn layout(description: &Description) -> Result<(Vec<usize>, Vec<isize>), Failure> {
    let rank = description.ndim.max(0) as usize;
    let read = |start: *const i64| -> Vec<i64> {
        // SAFETY: the producer gives `ndim` numbers.
        if rank == 0 { vec![] } else { unsafe { std::slice::from_raw_parts(start, rank) }.to_vec() }
    };
    let shape: Vec<usize> = read(description.shape)
        .into_iter()
        .map(|dim| usize::try_from(dim).map_err(|_| PyValueError::new_err("a DLPack dimension is negative")))
        .collect::<PyResult<_>>()?;
    if !description.strides.is_null() {
        return Ok((shape, read(description.strides).into_iter().map(|stride| stride as isize).collect()));
    }
    let mut strides = vec![1_isize; rank];
    for axis in (1..rank).rev() {
        strides[axis - 1] = strides[axis] * shape[axis] as isize;
    }
    Ok((shape, strides))
}
