//! What a computation needs: threads and kernels, and the pieces of a block that are made of both.

use std::sync::Arc;

use bitnet_core::{DisjointSlice, FloatKernels, ThreadPool};
use bitnet_quant::{Product, QuantizedActivations, TernaryKernel, Then};

use super::prepared::{Base, PreparedLinear};
use crate::Result;
use crate::activation::{Activation, gelu, gelu_tanh, silu};
use crate::model::FloatLinear;

/// Threads and kernels.
#[derive(Debug, Clone)]
pub(super) struct Compute {
    pub(super) pool: Arc<ThreadPool>,
    pub(super) floats: FloatKernels,
    pub(super) ternary: TernaryKernel,
}

/// An input of linears, and the norm between.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a> {
    /// `[tokens, width]`.
    pub(super) x: &'a [f32],
    /// `[width]`, where there is a norm.
    pub(super) norm: Option<&'a [f32]>,
    pub(super) eps: f32,
}

impl Input<'_> {
    fn quantize(&self, compute: &Compute, quantized: &mut QuantizedActivations, width: usize) {
        let Compute { pool, floats, .. } = compute;
        match self.norm {
            Some(norm) => quantized.quantize_normed(pool, floats, self.x, norm, self.eps),
            None => quantized.quantize(pool, floats, self.x, width),
        }
    }
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

    /// `x += y`, or `x += norm(y)` where there is a norm, by way of `normed`.
    pub(super) fn add_normed(
        &self,
        x: &mut [f32],
        y: &[f32],
        norm: Option<&[f32]>,
        eps: f32,
        normed: &mut [f32],
    ) {
        match norm {
            Some(norm) => {
                let normed = &mut normed[..y.len()];
                self.rms_norm(y, norm, eps, normed);
                self.add(x, normed);
            }
            None => self.add(x, y),
        }
    }

    /// `x = norm(x)` of every head, where there is a norm, by way of `normed`.
    pub(super) fn norm_heads(&self, x: &mut [f32], norm: Option<&[f32]>, eps: f32, normed: &mut [f32]) {
        if let Some(norm) = norm {
            let normed = &mut normed[..x.len()];
            self.rms_norm(x, norm, eps, normed);
            x.copy_from_slice(normed);
        }
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
                Activation::Silu => scalar(gate, silu),
                Activation::Gelu => scalar(gate, gelu),
                Activation::GeluTanh => scalar(gate, gelu_tanh),
            }
        });
    }

    /// Several linears of one input. Where they are ternary and have no norm of their own, they share its quantization
    /// and one dispatch, and where nothing is added to them either, `normed` is not written; else the input behind its
    /// norm is returned.
    pub(super) fn linears<'a, const N: usize>(
        &self,
        input: Input<'a>,
        normed: &'a mut [f32],
        quantized: &mut QuantizedActivations,
        mut outputs: [(&PreparedLinear, &mut [f32]); N],
    ) -> Result<Option<&'a [f32]>> {
        if outputs.iter().all(|(linear, _)| linear.is_plain()) {
            input.quantize(self, quantized, outputs[0].0.cols());
            self.products(quantized, outputs)?;
            return Ok(None);
        }
        let x = match input.norm {
            Some(norm) => {
                self.rms_norm(input.x, norm, input.eps, &mut normed[..input.x.len()]);
                &normed[..input.x.len()]
            }
            None => input.x,
        };
        if outputs.iter().all(|(linear, _)| linear.base.is_plain()) {
            quantized.quantize(&self.pool, &self.floats, x, outputs[0].0.cols());
            self.products(quantized, outputs.each_mut().map(|(linear, out)| (*linear, &mut **out)))?;
        } else {
            for (linear, out) in &mut outputs {
                self.base(&linear.base, x, quantized, out)?;
            }
        }
        for (linear, out) in outputs {
            if let Some(added) = &linear.added {
                added.add_product(&self.pool, &self.floats, x, out);
            }
        }
        Ok(Some(x))
    }

    /// One linear, with the quantization of its input, and without what is added to it.
    fn base(
        &self,
        base: &Base,
        x: &[f32],
        quantized: &mut QuantizedActivations,
        out: &mut [f32],
    ) -> Result<()> {
        match base {
            Base::Float(linear) => self.float_linear(linear, x, out),
            Base::Scaled(linear) => linear.multiply(self, x, quantized, out)?,
            Base::Ternary(linear) => {
                linear.quantize_input(&self.pool, &self.floats, x, quantized);
                let product = Product { w: linear.weight(), bias: linear.bias(), out, then: Then::Store };
                self.ternary.products(&self.pool, quantized, [product])?;
            }
        }
        Ok(())
    }

    fn products<const N: usize>(
        &self,
        quantized: &QuantizedActivations,
        outputs: [(&PreparedLinear, &mut [f32]); N],
    ) -> Result<()> {
        let products = outputs.map(|(linear, out)| match &linear.base {
            Base::Ternary(linear) => {
                Product { w: linear.weight(), bias: linear.bias(), out, then: Then::Store }
            }
            Base::Scaled(_) | Base::Float(_) => unreachable!("plain linears are packed"),
        });
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
