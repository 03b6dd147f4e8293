//! Packed ternary tensors, by way of bitnet-quant.

use bitnet_core::{DType, Tensor as Core, ThreadPool};
use pyo3::prelude::*;

use super::{MANY, Tensor};
use crate::error::Failure;

/// Products of codes that take as long as an element of other operations.
const PRODUCTS: usize = 64;

/// Another type, packed or not.
pub(super) fn converted(x: &Core, dtype: DType) -> Result<Core, Failure> {
    match (x.dtype(), dtype) {
        (DType::Ternary, DType::Ternary) => Ok(x.clone()),
        (_, DType::Ternary) => Ok(bitnet_quant::tensor::pack(x)?),
        (DType::Ternary, _) => Ok(bitnet_quant::tensor::unpack(x)?.to_dtype(dtype)?),
        _ => Ok(x.to_dtype(dtype)?),
    }
}

/// `w @ x` of packed codes and int8, in exact 32-bit sums.
pub(super) fn product(py: Python<'_>, w: &Core, x: &Core) -> Result<Tensor, Failure> {
    py.detach(|| {
        let columns = x.dims().get(1).copied().unwrap_or(1);
        let work = w.len().saturating_mul(columns) / PRODUCTS;
        let pool = ThreadPool::new(if work < MANY { 1 } else { ThreadPool::default_threads() })?;
        Ok(bitnet_quant::tensor::matmul(&pool, w, x)?.into())
    })
}
