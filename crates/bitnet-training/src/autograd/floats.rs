//! Elements of float32 tensors, and how threads share them out.

use std::sync::Arc;

use bitnet_core::tensor::lent_threads;
use bitnet_core::{Buffer, FloatKernels, HybridMemoryPool, Isa, PoolVec, Shape, Tensor, ThreadPool};

use crate::Result;

/// Elements worth a piece of a job.
const GRAIN: usize = 1 << 13;

/// What operations compute with.
pub(super) struct Compute {
    pub(super) pool: Arc<ThreadPool>,
    pub(super) kernels: FloatKernels,
}

impl Compute {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { pool: lent_threads()?, kernels: FloatKernels::new(Isa::selected()?)? })
    }
}

/// The elements, row-major: where they lie, or copied where they have gaps.
pub(super) fn elements(tensor: &Tensor) -> Result<Buffer<f32>> {
    Ok(tensor.contiguous()?.data().typed())
}

/// Memory for elements that are written all.
pub(crate) fn uncleared(len: usize) -> Result<PoolVec<f32>> {
    Ok(HybridMemoryPool::global().uncleared(len)?)
}

/// A tensor whose pieces of whole rows of `width` are written by `job(first row, piece)` on the threads there are.
pub(super) fn by_rows(
    compute: &Compute,
    shape: &Shape,
    width: usize,
    job: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<Tensor> {
    let mut out = uncleared(shape.elements()?)?;
    match out.len() {
        0 => {}
        1..=GRAIN => job(0, &mut out),
        _ => compute.pool.split_rows(&mut out, width, |rows, out| job(rows.start, out)),
    }
    Ok(Tensor::from_pool(out, shape.clone())?)
}

/// A tensor whose pieces are written by `job(first element, piece)` on the threads there are.
pub(super) fn by_elements(
    compute: &Compute,
    shape: &Shape,
    job: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<Tensor> {
    by_rows(compute, shape, 1, job)
}
