//! Products of ternary weights and int8 activations.

use super::quantize::code_stride;
use super::{Compiler, Quantized, accumulates, check, has_bias};
use crate::panels::{PANEL_ROWS, panel_bytes};
use crate::{Bindings, Dispatch, Gpu, Memory, Params, Result};

/// Threads of a threadgroup, four simdgroups.
const THREADS: usize = 128;

/// Up to how many tokens are multiplied one by one.
const FEW_TOKENS: usize = 8;

/// Tokens of a threadgroup where there are few.
const TOKENS_TOGETHER: usize = 4;

/// With fewer panels than this, the simdgroups of a threadgroup share one: there would not be work for all
/// otherwise.
const MANY_PANELS: usize = 1024;

/// Rows and tokens of a tile of many tokens.
const TILE: [usize; 2] = [64, 32];

/// A ternary matrix on the device, `W = codes * scale`, in [panels](crate::panels).
#[derive(Debug)]
pub struct TernaryWeights<M> {
    /// The codes.
    pub panels: M,
    /// One for each row.
    pub scales: M,
    /// One for each row.
    pub bias: Option<M>,
    /// Number of outputs.
    pub rows: usize,
    /// Number of inputs.
    pub cols: usize,
}

/// `out[t, r] = codes[r] . x[t] * weight_scale[r] / activation_scale[t] (+ bias[r])`, or that added to `out`.
/// The dot product is exact.
#[derive(Debug)]
pub struct TernaryProduct<G: Gpu> {
    /// By how many tokens, and how many simdgroups, go together: the former one or more, the latter one or
    /// more.
    few: [[G::Pipeline; 2]; 2],
    many: G::Pipeline,
    has_bias: bool,
}

impl<G: Gpu> TernaryProduct<G> {
    /// Compiles it for any number of tokens.
    pub fn new(compiler: &mut Compiler<'_, G>, bias: bool, accumulate: bool) -> Result<Self> {
        let constants = [has_bias(bias), accumulates(accumulate)];
        let mut few = |name| compiler.pipeline(name, &constants, THREADS);
        let few = [
            [few("ternary_gemv_t1_k1")?, few("ternary_gemv_t1_k4")?],
            [few("ternary_gemv_t4_k1")?, few("ternary_gemv_t4_k4")?],
        ];
        Ok(Self { few, many: compiler.pipeline("ternary_gemm", &constants, THREADS)?, has_bias: bias })
    }

    /// Multiplies `tokens` tokens. `out` is `[tokens, out_stride]`.
    pub fn dispatch<'a>(
        &'a self,
        weights: &'a TernaryWeights<G::Memory>,
        x: &'a Quantized<G::Memory>,
        tokens: usize,
        out: &'a G::Memory,
        out_stride: usize,
    ) -> Dispatch<'a, G> {
        let TernaryWeights { panels, scales, bias, rows, cols } = weights;
        let (rows, cols) = (*rows, *cols);
        let code_stride = code_stride(cols);
        assert_eq!(panels.size_bytes(), panel_bytes(rows, cols), "panels of the matrix");
        assert_eq!(bias.is_some(), self.has_bias, "a bias where one was compiled in");
        check("weight scales", scales, rows, 1, 1, 4);
        check("codes", &x.codes, tokens, code_stride, code_stride, 1);
        check("activation scales", &x.scales, tokens, 1, 1, 4);
        check("sums", &x.sums, tokens, 1, 1, 4);
        check("out", out, tokens, out_stride, rows, 4);
        if let Some(bias) = bias {
            check("bias", bias, rows, 1, 1, 4);
        }
        let (pipeline, threadgroups) = self.choose(rows, tokens);
        let sizes = [rows, cols, tokens, code_stride, out_stride];
        Dispatch {
            pipeline,
            buffers: Bindings::optional([
                Some(panels),
                Some(scales),
                Some(&x.codes),
                Some(&x.scales),
                Some(&x.sums),
                Some(out),
                bias.as_ref(),
            ]),
            params: Params::new(sizes.map(|size| size as u32)),
            threadgroups,
            threads: THREADS,
            threadgroup_bytes: 0,
            waits: true,
        }
    }

    fn choose(&self, rows: usize, tokens: usize) -> (&G::Pipeline, [usize; 3]) {
        if tokens > FEW_TOKENS {
            return (&self.many, [rows.div_ceil(TILE[0]), tokens.div_ceil(TILE[1]), 1]);
        }
        let panels = rows.div_ceil(PANEL_ROWS);
        let shares = panels < MANY_PANELS;
        let together = if tokens == 1 { 1 } else { TOKENS_TOGETHER };
        let groups = if shares { panels } else { panels.div_ceil(THREADS / 32) };
        (&self.few[usize::from(tokens > 1)][usize::from(shares)], [groups, tokens.div_ceil(together), 1])
    }
}
