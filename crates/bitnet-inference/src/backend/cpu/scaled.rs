//! Ternary linears that the packed kernels do not take: several scales, or activations that stay floats.
//!
//! Correct, not fast: see `bitnet_quant::scaled_product` and `bitnet_quant::float_product`.

use bitnet_quant::{BitLinear, QuantizedActivations, float_matmul, scaled_matmul};

use super::compute::Compute;
use crate::Result;
use crate::config::ActivationMode;

/// A linear as it was loaded.
#[derive(Debug)]
pub(super) struct ScaledLinear {
    pub(super) linear: BitLinear,
    pub(super) activations: ActivationMode,
}

impl ScaledLinear {
    /// `out = act(norm(x)) W^T + b`, with `x` `[tokens, cols]`; `act` rounds to int8 or does nothing.
    pub(super) fn multiply(
        &self,
        compute: &Compute,
        x: &[f32],
        quantized: &mut QuantizedActivations,
        out: &mut [f32],
    ) -> Result<()> {
        let Compute { pool, floats, ternary } = compute;
        let (weight, bias) = (self.linear.weight(), self.linear.bias());
        match (self.activations, self.linear.norm()) {
            (ActivationMode::Int8, norm) => {
                match norm {
                    Some(norm) => quantized.quantize_normed(pool, floats, x, &norm.weight, norm.eps),
                    None => quantized.quantize(pool, floats, x, weight.cols()),
                }
                scaled_matmul(ternary, pool, weight, quantized, bias, out)?;
            }
            (ActivationMode::Float, Some(norm)) => {
                let mut normed = vec![0.0; x.len()];
                compute.rms_norm(x, &norm.weight, norm.eps, &mut normed);
                float_matmul(pool, floats, weight, &normed, bias, out)?;
            }
            (ActivationMode::Float, None) => float_matmul(pool, floats, weight, x, bias, out)?,
        }
        Ok(())
    }
}
