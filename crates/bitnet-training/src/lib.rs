//! Quantization-aware training of BitNet b1.58.
//!
//! Today its first parts: the fake quantization that a forward pass sees, and the straight-through gradient of a
//! `BitLinear` layer. Both use the rules of `bitnet-quant`, so training and inference cannot drift apart. And [`data`],
//! which reads texts as inference does, and [`checkpoint`], from which a run goes on.

mod bit_linear;
mod byte_tokenizer;
pub mod checkpoint;
pub mod data;
mod error;
mod fake_quant;
pub mod guard;
mod hash;
mod mapped;
pub mod metrics;

pub use bit_linear::{BitLinearGradients, bit_linear_backward, bit_linear_forward};
pub use byte_tokenizer::ByteTokenizer;
pub use error::{Error, Result};
pub use fake_quant::{fake_quantize_activations, fake_quantize_weights};
