//! BitNet b1.58 arithmetic: ternary weights, int8 activations, and the integer product of the two.
//!
//! `y = (W_q . x_q) * weight_scale / activation_scale`, with the sum in 32-bit integers: exact, so that every
//! instruction set, thread count and batch gives the same bits.
pub mod absmean;
pub mod activation;
pub mod bit_linear;
pub mod codec;
pub mod compact_rows;
pub mod error;
pub mod kernel;
pub mod packed;
pub mod packed_linear;
pub mod packing;
pub mod scales;
pub mod ternary;

pub use absmean::quantize_weights;
pub use activation::QuantizedActivations;
pub use bit_linear::{BitLinear, InputNorm};
pub use codec::Codec;
pub use compact_rows::{CompactRows, Margin, SplitActivations};
pub use error::{Error, Result};
pub use kernel::{Product, SparseScratch, TernaryKernel, Then};
pub use packed::{Order, PackedMatrix};
pub use packed_linear::PackedLinear;
pub use packing::Packing;
pub use scales::{Granularity, Scales};
pub use ternary::TernaryMatrix;
