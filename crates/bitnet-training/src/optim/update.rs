//! New values of a parameter from its gradient and what an optimizer keeps of it.

use bitnet_core::tensor::lent_threads;
use bitnet_core::{Buffer, DisjointSlice, Tensor};

use crate::Result;
use crate::autograd::uncleared;
use crate::nn::Parameter;

/// Elements worth a piece of a job.
const GRAIN: usize = 1 << 13;

/// Replaces the value of a parameter by what `job(new, old, gradient, kept)` writes to `new`, piece by piece.
#[expect(unsafe_code, reason = "threads write disjoint elements")]
pub(super) fn update<const N: usize>(
    parameter: &Parameter,
    gradient: &Tensor,
    kept: [&mut Vec<f32>; N],
    job: impl Fn(&mut [f32], &[f32], &[f32], [&mut [f32]; N]) + Sync,
) -> Result<()> {
    let value = parameter.variable().value();
    let old: Buffer<f32> = value.contiguous()?.data().typed();
    let gradient: Buffer<f32> = gradient.contiguous()?.data().typed();
    let mut new = uncleared(old.len())?;
    let shared = DisjointSlice::new(&mut new);
    let kept = kept.map(|kept| DisjointSlice::new(kept));
    lent_threads()?.split(old.len(), GRAIN, |range| {
        // SAFETY: the ranges of a split do not overlap.
        let (new, kept) =
            unsafe { (shared.part(range.clone()), kept.each_ref().map(|kept| kept.part(range.clone()))) };
        job(new, &old[range.clone()], &gradient[range], kept);
    });
    parameter.variable().set_value(Tensor::from_pool(new, value.shape().clone())?)
}
