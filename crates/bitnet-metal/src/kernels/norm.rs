//! RMSNorm.

use super::{Compiler, accumulates, check};
use crate::{Bindings, Dispatch, Gpu, Params, Result};

/// Threads of a group that is wide.
const MOST_THREADS: usize = 512;

/// Where the rows of a norm lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormShape {
    /// Tokens.
    pub tokens: usize,
    /// Groups side by side in the row of a token, each of which is normalised: its heads, or one.
    pub groups: usize,
    /// Width of a group.
    pub cols: usize,
    /// From one token to the next.
    pub stride: usize,
    /// Where the first group of a row begins.
    pub first: usize,
    /// From one token of the output to the next; its groups begin where those of the input do.
    pub out_stride: usize,
}

/// `out = weight * x / sqrt(mean(x^2) + eps)` (arXiv 1910.07467), or that added to `out`.
#[derive(Debug)]
pub struct Norm<G: Gpu> {
    pipeline: G::Pipeline,
}

impl<G: Gpu> Norm<G> {
    /// Compiles it.
    pub fn new(compiler: &mut Compiler<'_, G>, accumulate: bool) -> Result<Self> {
        Ok(Self { pipeline: compiler.pipeline("rms_norm", &[accumulates(accumulate)], MOST_THREADS)? })
    }

    /// Normalises every group of every token. `weight` is `[cols]`; `out` may be `x`.
    pub fn dispatch<'a>(
        &'a self,
        x: &'a G::Memory,
        weight: &'a G::Memory,
        eps: f32,
        shape: NormShape,
        out: &'a G::Memory,
    ) -> Dispatch<'a, G> {
        let NormShape { tokens, groups, cols, stride, first, out_stride } = shape;
        check("x", x, tokens, stride, first + groups * cols, 4);
        check("out", out, tokens, out_stride, first + groups * cols, 4);
        check("weight", weight, 1, cols, cols, 4);
        Dispatch {
            pipeline: &self.pipeline,
            buffers: Bindings::new([x, weight, out]).at(0, first * 4).at(2, first * 4),
            params: Params::new([cols as u32, stride as u32, out_stride as u32, eps.to_bits()]),
            threadgroups: [groups, tokens, 1],
            threads: cols.next_multiple_of(32).min(MOST_THREADS),
            threadgroup_bytes: 0,
            waits: true,
        }
    }
}
