//! Products of stored floats: the head.

use super::{Compiler, Element, check, has_bias, has_row_scales};
use crate::{Bindings, Dispatch, Gpu, Params, Result};

/// Threads of a threadgroup.
const THREADS: usize = 128;

/// Rows of a threadgroup.
const ROWS: usize = 16;

/// Tokens of a threadgroup, where there are several.
const TOKENS_TOGETHER: usize = 4;

/// A matrix of floats on the device.
#[derive(Debug)]
pub struct FloatWeights<M> {
    /// `[rows, cols]`.
    pub elements: M,
    /// Their type.
    pub element: Element,
    /// One for each row.
    pub bias: Option<M>,
    /// Number of outputs.
    pub rows: usize,
    /// Number of inputs.
    pub cols: usize,
}

/// `out[t, r] = sum_c W[r, c] x[t, c] (+ bias[r])`, in the order in which the CPU adds.
#[derive(Debug)]
pub struct FloatProduct<G: Gpu> {
    one: G::Pipeline,
    several: G::Pipeline,
    element: Element,
    has_bias: bool,
}

impl<G: Gpu> FloatProduct<G> {
    /// Compiles it for weights of this type.
    pub fn new(compiler: &mut Compiler<'_, G>, element: Element, bias: bool) -> Result<Self> {
        let mut compile = |tokens: usize| {
            compiler.pipeline(
                &format!("float_gemv_{}_t{tokens}", element.suffix()),
                &[has_bias(bias), has_row_scales(false)],
                THREADS,
            )
        };
        Ok(Self { one: compile(1)?, several: compile(TOKENS_TOGETHER)?, element, has_bias: bias })
    }

    /// Multiplies `tokens` rows of `x`, from row `first` on; `x` is `[first + tokens, cols]`, `out` `[tokens,
    /// rows]`.
    pub fn dispatch<'a>(
        &'a self,
        weights: &'a FloatWeights<G::Memory>,
        x: &'a G::Memory,
        first: usize,
        tokens: usize,
        out: &'a G::Memory,
    ) -> Dispatch<'a, G> {
        let FloatWeights { elements, element, bias, rows, cols } = weights;
        let (rows, cols) = (*rows, *cols);
        assert_eq!((*element, bias.is_some()), (self.element, self.has_bias), "what was compiled in");
        check("weights", elements, rows, cols, cols, element.size_bytes());
        check("x", x, first + tokens, cols, cols, 4);
        check("out", out, tokens, rows, rows, 4);
        if let Some(bias) = bias {
            check("bias", bias, rows, 1, 1, 4);
        }
        let (pipeline, together) =
            if tokens == 1 { (&self.one, 1) } else { (&self.several, TOKENS_TOGETHER) };
        let sizes = [rows, cols, tokens, cols, rows];
        Dispatch {
            pipeline,
            buffers: Bindings::optional([Some(elements), Some(x), Some(out), bias.as_ref(), None])
                .at(1, first * cols * 4),
            params: Params::new(sizes.map(|size| size as u32)),
            threadgroups: [rows.div_ceil(ROWS), tokens.div_ceil(together), 1],
            threads: THREADS,
            threadgroup_bytes: 0,
            waits: true,
        }
    }
}
