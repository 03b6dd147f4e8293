//! One safetensors file.

use std::collections::BTreeMap;
use std::path::Path;

use bitnet_core::{Buffer, DType, Tensor};
use safetensors::{Dtype, SafeTensors};

use crate::{Error, Result};

/// The tensors of a file, sharing its bytes.
///
/// Errors: [`Error::Checkpoint`] when the header is too long, is not JSON, or lies about offsets, shapes or types.
pub fn read(path: &Path, bytes: &Buffer) -> Result<BTreeMap<String, Tensor>> {
    let (header_bytes, metadata) = SafeTensors::read_metadata(bytes)
        .map_err(|error| Error::checkpoint(path, format!("is not a sound safetensors file: {error}")))?;
    // The length of the header is itself eight bytes long.
    let data_start = header_bytes + 8;
    let mut tensors = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let dtype = dtype(info.dtype).ok_or_else(|| {
            Error::checkpoint(path, format!("tensor {name}: data type {:?} is not supported", info.dtype))
        })?;
        let (start, end) = info.data_offsets;
        let data = bytes.slice(data_start + start..data_start + end);
        let tensor = Tensor::new(dtype, info.shape.as_slice(), data)
            .map_err(|error| Error::checkpoint(path, format!("tensor {name}: {error}")))?;
        tensors.insert(name.clone(), tensor);
    }
    Ok(tensors)
}

fn dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I8 => DType::I8,
        Dtype::U8 => DType::U8,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::BOOL => DType::Bool,
        _ => return None,
    })
}
