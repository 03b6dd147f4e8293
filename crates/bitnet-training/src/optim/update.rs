//! New values of a parameter from its gradient and what an optimizer keeps of it.

use bitnet_core::tensor::lent_threads;
use bitnet_core::{Buffer, DisjointSlice, Tensor};

use crate::Result;
use crate::autograd::uncleared;
use crate::nn::Parameter;

/// Elements worth a piece of a job.
const GRAIN: usize = 1 << 13;

/// Replaces the value of a parameter by what `job(new, old, gradient, kept)` writes to `new`, piece by piece. One item of
/// `kept` is of `per` elements, a divisor of [`GRAIN`].
#[expect(unsafe_code, reason = "threads write disjoint elements")]
pub(super) fn update<T: Send, const N: usize>(
    parameter: &Parameter,
    gradient: &Tensor,
    per: usize,
    kept: [&mut Vec<T>; N],
    job: impl Fn(&mut [f32], &[f32], &[f32], [&mut [T]; N]) + Sync,
) -> Result<()> {
    assert!(GRAIN.is_multiple_of(per), "{per} elements divide a piece");
    let value = parameter.variable().value();
    let old: Buffer<f32> = value.contiguous()?.data().typed();
    let gradient: Buffer<f32> = gradient.contiguous()?.data().typed();
    let mut new = uncleared(old.len())?;
    let shared = DisjointSlice::new(&mut new);
    let kept = kept.map(|kept| DisjointSlice::new(kept));
    lent_threads()?.split(old.len(), GRAIN, |range| {
        let items = range.start / per..range.end.div_ceil(per);
        // SAFETY: the ranges of a split do not overlap; they begin at multiples of `GRAIN`, so their items do not either.
        let (new, kept) =
            unsafe { (shared.part(range.clone()), kept.each_ref().map(|kept| kept.part(items.clone()))) };
        job(new, &old[range.clone()], &gradient[range], kept);
    });
    parameter.variable().set_value(Tensor::from_pool(new, value.shape().clone())?)
}
