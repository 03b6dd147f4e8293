//! What a computation needs: threads and kernels, and the pieces of a block that are made of both.

use std::sync::Arc;

use bitnet_core::{DisjointSlice, FloatKernels, ThreadPool};
use bitnet_quant::{Product, QuantizedActivations, TernaryKernel};

use super::prepared::PreparedLinear;
use crate::Result;
use crate::activation::Activation;
use crate::model::FloatLinear;

/// Threads and kernels.
#[derive(Debug, Clone)]
pub(super) struct Compute {
    pub(super) pool: Arc<ThreadPool>,
    pub(super) floats: FloatKernels,
    pub(super) ternary: TernaryKernel,
}

/// Elements of a vector that a thread takes at once; fewer are not worth a second thread.
const ELEMENTS: usize = 16 << 10;

impl Compute {
    /// RMSNorm of every token.
    #[expect(unsafe_code, reason = "threads write disjoint tokens")]
    pub(super) fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let width = weight.len();
        let out = DisjointSlice::new(out);
        self.pool.split(x.len() / width, 4, |tokens| {
            for token in tokens {
                let at = token * width..(token + 1) * width;
                // SAFETY: each token belongs to one thread.
                self.floats.rms_norm(&x[at.clone()], weight, eps, unsafe { out.part(at) });
            }
        });
    }

    /// `x += y`.
    #[expect(unsafe_code, reason = "threads write disjoint elements")]
    pub(super) fn add(&self, x: &mut [f32], y: &[f32]) {
        let len = x.len();
        let x = DisjointSlice::new(x);
        self.pool.split(len, ELEMENTS, |range| {
            // SAFETY: ranges of a split are disjoint.
            self.floats.add_scaled(unsafe { x.part(range.clone()) }, 1.0, &y[range]);
        });
    }

    /// `gate = act(gate) * up`.
    #[expect(unsafe_code, reason = "threads write disjoint elements")]
    pub(super) fn gate(&self, activation: Activation, gate: &mut [f32], up: &[f32]) {
        let len = gate.len();
        let gate = DisjointSlice::new(gate);
        self.pool.split(len, 4096, |range| {
            // SAFETY: ranges of a split are disjoint.
            let gate = unsafe { gate.part(range.clone()) };
            let up = &up[range];
            let scalar = |gate: &mut [f32], act: fn(f32) -> f32| {
                gate.iter_mut().zip(up).for_each(|(gate, up)| *gate = act(*gate) * up);
            };
            match activation {
                Activation::Relu2 => self.floats.relu_squared_gate(gate, up),
                Activation::Silu => scalar(gate, |x| x / (1.0 + (-x).exp())),
                Activation::Gelu => {
                    scalar(gate, |x| x * 0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)));
                }
            }
        });
    }

    /// Several linears of one input, in one dispatch where they are ternary and have no norm of their own: those share
    /// its quantization.
    pub(super) fn linears<const N: usize>(
        &self,
        x: &[f32],
        normed: &mut [f32],
        quantized: &mut QuantizedActivations,
        outputs: [(&PreparedLinear, &mut [f32]); N],
    ) -> Result<()> {
        let mut plain = outputs.iter().map(|(linear, _)| match linear {
            PreparedLinear::Ternary(linear) => linear.norm().is_none(),
            PreparedLinear::Float(_) => false,
        });
        if plain.all(|is| is) {
            return self.shared(x, quantized, outputs);
        }
        for (linear, out) in outputs {
            match linear {
                PreparedLinear::Float(linear) => self.float_linear(linear, x, out),
                PreparedLinear::Ternary(linear) => {
                    linear.quantize_input(&self.pool, &self.floats, x, normed, quantized);
                    let product = Product { w: linear.weight(), bias: linear.bias(), out };
                    self.ternary.products(&self.pool, quantized, [product])?;
                }
            }
        }
        Ok(())
    }

    fn shared<const N: usize>(
        &self,
        x: &[f32],
        quantized: &mut QuantizedActivations,
        outputs: [(&PreparedLinear, &mut [f32]); N],
    ) -> Result<()> {
        let products = outputs.map(|(linear, out)| match linear {
            PreparedLinear::Ternary(linear) => Product { w: linear.weight(), bias: linear.bias(), out },
            PreparedLinear::Float(_) => unreachable!("the caller looked"),
        });
        quantized.quantize(&self.pool, &self.floats, x, products[0].w.cols());
        Ok(self.ternary.products(&self.pool, quantized, products)?)
    }

    pub(super) fn float_linear(&self, linear: &FloatLinear, x: &[f32], out: &mut [f32]) {
        linear.weight.matmul(&self.pool, &self.floats, x, out);
        if let Some(bias) = &linear.bias {
            for out in out.chunks_exact_mut(bias.len()) {
                self.floats.add_scaled(out, 1.0, bias);
            }
        }
    }
}
