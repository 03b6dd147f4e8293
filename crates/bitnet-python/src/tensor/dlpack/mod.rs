//! DLPack: memory shared with other libraries, described by C structures.
//!
//! Source of layouts and rules: DLPack 1.1, `dlpack.h`, and its Python specification.

mod export;
mod import;

use std::ffi::{CStr, c_void};

use bitnet_core::DType;

pub(super) use export::export;
pub(super) use import::import;

/// Device type and number.
pub(super) const CPU: (i32, i32) = (1, 0);
/// Memory of the CPU that CUDA or ROCm has pinned.
const PINNED: [i32; 2] = [3, 11];

const VERSION: Version = Version { major: 1, minor: 1 };
/// Flags.
const READ_ONLY: u64 = 1;
const IS_COPIED: u64 = 2;

const NAME: &CStr = c"dltensor";
const USED_NAME: &CStr = c"used_dltensor";
const VERSIONED_NAME: &CStr = c"dltensor_versioned";
const USED_VERSIONED_NAME: &CStr = c"used_dltensor_versioned";

#[repr(C)]
#[derive(Clone, Copy)]
struct Version {
    major: u32,
    minor: u32,
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq)]
struct DataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

/// `DLTensor`.
#[repr(C)]
struct Description {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    dtype: DataType,
    shape: *const i64,
    strides: *const i64,
    byte_offset: u64,
}

/// `DLManagedTensor`.
#[repr(C)]
struct Managed {
    description: Description,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
}

/// `DLManagedTensorVersioned`.
#[repr(C)]
struct ManagedVersioned {
    version: Version,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut ManagedVersioned)>,
    flags: u64,
    description: Description,
}

/// Nothing for a packed type, or one that is only stored.
fn data_type(dtype: DType) -> Option<DataType> {
    let code = match dtype {
        DType::I8 | DType::I32 | DType::I64 => 0,
        DType::U8 => 1,
        DType::F32 | DType::F16 => 2,
        DType::BF16 => 4,
        DType::Bool => 6,
        DType::Ternary | DType::F64 => return None,
    };
    Some(DataType { code, bits: 8 * dtype.size_bytes() as u8, lanes: 1 })
}
