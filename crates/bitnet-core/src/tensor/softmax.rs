//! Softmax and its logarithm.

use crate::{DType, FloatKernels, Isa, Result, Tensor};

use super::create::uncleared;
use super::promote::to_float;
use super::{layout, threads};

/// Elements worth the start of a job.
const GRAIN: usize = 1 << 12;

impl Tensor {
    /// `e^(x_i - max x) / sum_j e^(x_j - max x)` along `axis`; NaN where `max x` is not finite.
    ///
    /// Floats keep their type, computed in float32 with the sum in float64; all others give `f32`.
    ///
    /// Errors: [`Error::Axis`](crate::Error::Axis), [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn softmax(&self, axis: isize) -> Result<Self> {
        let kernels = FloatKernels::new(Isa::selected()?)?;
        self.along(axis, |x, out| {
            let max = max(x);
            out.copy_from_slice(x);
            kernels.softmax_weights(out, max);
            let total = if max.is_finite() { sum(out) } else { f32::NAN };
            for out in out {
                *out /= total;
            }
        })
    }

    /// `x_i - max x - log(sum_j e^(x_j - max x))` along `axis`; types and errors are those of [`Self::softmax`].
    pub fn log_softmax(&self, axis: isize) -> Result<Self> {
        let kernels = FloatKernels::new(Isa::selected()?)?;
        self.along(axis, |x, out| {
            let max = max(x);
            out.copy_from_slice(x);
            kernels.softmax_weights(out, max);
            let log_total = if max.is_finite() { sum(out).ln() } else { f32::NAN };
            out.iter_mut().zip(x).for_each(|(out, x)| *out = x - max - log_total);
        })
    }

    /// `row(x, out)` for every row along `axis`, in float32.
    fn along(&self, axis: isize, row: impl Fn(&[f32], &mut [f32]) + Sync) -> Result<Self> {
        let axis = layout::axis(axis, self.rank())? as isize;
        let rows = self.swap_axes(axis, -1)?;
        rows.map_rows(row)?.swap_axes(axis, -1)
    }

    /// `row(x, out)` for every row along the last dimension, in float32.
    pub(super) fn map_rows(&self, row: impl Fn(&[f32], &mut [f32]) + Sync) -> Result<Self> {
        let x = self.to_dtype(DType::F32)?.contiguous()?;
        let storage = x.elements::<f32>();
        let storage: &[f32] = &storage;
        let mut out = uncleared::<f32>(x.len())?;
        let cols = x.dims().last().copied().unwrap_or(1).max(1);
        threads::fill(&mut out, cols * (GRAIN / cols).max(1), &|start, out| {
            let rows = storage[start..][..out.len()].chunks_exact(cols);
            rows.zip(out.chunks_exact_mut(cols)).for_each(|(x, out)| row(x, out));
        });
        Self::from_pool(out, x.shape().clone())?.to_dtype(to_float(self.dtype()))
    }
}

/// The greatest element; NaN where there is one.
fn max(x: &[f32]) -> f32 {
    x.iter().fold(f32::NEG_INFINITY, |max, &x| if x > max || x.is_nan() { x } else { max })
}

fn sum(x: &[f32]) -> f32 {
    x.iter().map(|&x| f64::from(x)).sum::<f64>() as f32
}
