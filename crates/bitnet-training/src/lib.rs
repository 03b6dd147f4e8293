//! Quantization-aware training of BitNet b1.58.
//!
//! Today its first part: the fake quantization that a forward pass sees, and the straight-through gradient of a
//! `BitLinear` layer. Both use the rules of `bitnet-quant`, so training and inference cannot drift apart.

mod bit_linear;
mod fake_quant;

pub use bit_linear::{BitLinearGradients, bit_linear_backward, bit_linear_forward};
pub use fake_quant::{fake_quantize_activations, fake_quantize_weights};
