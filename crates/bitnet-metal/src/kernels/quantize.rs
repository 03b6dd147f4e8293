//! Int8 activations.

use super::{Compiler, check, gate, has_norm};
use crate::{Bindings, Dispatch, Gpu, Params, Result};

/// Threads of a token.
const THREADS: usize = 512;

/// The gated nonlinearity of a feed-forward network: `act(gate) * up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `relu(gate)^2 * up`.
    Relu2,
    /// `silu(gate) * up`.
    Silu,
    /// `gelu(gate) * up` by way of tanh.
    GeluTanh,
}

/// Memory for int8 codes of some tokens, their scales and their sums.
#[derive(Debug)]
pub struct Quantized<M> {
    pub(super) codes: M,
    pub(super) scales: M,
    pub(super) sums: M,
}

impl<M> Quantized<M> {
    /// Room for `tokens` tokens of up to `cols` columns.
    ///
    /// Errors: [`crate::Error::OutOfMemory`].
    pub fn new<G: Gpu<Memory = M>>(gpu: &G, tokens: usize, cols: usize) -> Result<Self> {
        let codes = gpu.allocate(tokens * code_stride(cols))?;
        Ok(Self { codes, scales: gpu.allocate(tokens * 4)?, sums: gpu.allocate(tokens * 4)? })
    }
}

/// From the codes of one token to those of the next.
pub(super) fn code_stride(cols: usize) -> usize {
    cols.next_multiple_of(32)
}

/// `codes = round(norm(x) * scale)`, `scale = 127 / max(absmax(norm(x)), 1e-5)`, token by token; with a
/// [`Gate`] of `act(gate) * up` in place of `x`, which lie side by side in a row.
#[derive(Debug)]
pub struct Quantize<G: Gpu> {
    pipeline: G::Pipeline,
    has_norm: bool,
    gate: Option<Gate>,
}

impl<G: Gpu> Quantize<G> {
    /// Compiles it.
    pub fn new(compiler: &mut Compiler<'_, G>, has_norm_weight: bool, gated: Option<Gate>) -> Result<Self> {
        let code = match gated {
            None => 0,
            Some(Gate::Relu2) => 1,
            Some(Gate::Silu) => 2,
            Some(Gate::GeluTanh) => 3,
        };
        let pipeline = compiler.pipeline("quantize", &[has_norm(has_norm_weight), gate(code)], THREADS)?;
        Ok(Self { pipeline, has_norm: has_norm_weight, gate: gated })
    }

    /// Quantizes `tokens` rows of `cols` values, `[tokens, stride]`. `norm` is `[cols]`.
    #[expect(clippy::too_many_arguments, reason = "what the kernel takes")]
    pub fn dispatch<'a>(
        &'a self,
        x: &'a G::Memory,
        stride: usize,
        norm: Option<&'a G::Memory>,
        eps: f32,
        tokens: usize,
        cols: usize,
        out: &'a Quantized<G::Memory>,
    ) -> Dispatch<'a, G> {
        let code_stride = code_stride(cols);
        check("x", x, tokens, stride, if self.gate.is_some() { 2 * cols } else { cols }, 4);
        check("codes", &out.codes, tokens, code_stride, code_stride, 1);
        check("scales", &out.scales, tokens, 1, 1, 4);
        check("sums", &out.sums, tokens, 1, 1, 4);
        assert_eq!(norm.is_some(), self.has_norm, "a norm where one was compiled in");
        if let Some(norm) = norm {
            check("norm", norm, 1, cols, cols, 4);
        }
        Dispatch {
            pipeline: &self.pipeline,
            buffers: Bindings::optional([
                Some(x),
                norm,
                Some(&out.codes),
                Some(&out.scales),
                Some(&out.sums),
            ]),
            params: Params::new([cols as u32, stride as u32, code_stride as u32, eps.to_bits()]),
            threadgroups: [tokens, 1, 1],
            threads: THREADS,
            threadgroup_bytes: 0,
            waits: true,
        }
    }
}
