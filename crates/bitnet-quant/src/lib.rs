//! BitNet b1.58 arithmetic: ternary weights, int8 activations, and the integer product of the two.
//!
//! `y = (W_q . x_q) * weight_scale / activation_scale`, with the sum in 32-bit integers: exact, so that every
//! instruction set, thread count and batch gives the same bits.
pub mod activation;
pub mod activation_options;
pub mod bit_linear;
pub mod codec;
pub mod compact_rows;
pub mod error;
pub mod error_metrics;
pub mod float_product;
pub mod int_matrix;
pub mod kernel;
pub mod packed;
pub mod packed_linear;
pub mod packing;
pub mod recommend;
pub mod rounding;
mod rows;
pub mod scaled_product;
pub mod scales;
mod spans;
pub mod statistics;
pub mod tensor;
pub mod ternary;
pub mod weights;
mod wide;

pub use activation::{QuantizedActivations, QuantizedToken};
pub use activation_options::{ActivationOptions, quantize_activations_with};
pub use bit_linear::{BitLinear, InputNorm};
pub use codec::Codec;
pub use compact_rows::{CompactRows, Margin, RoundedActivations, SCORE_BLOCK, ScoreBlock};
pub use error::{Error, Result};
pub use error_metrics::{ErrorMeter, ErrorMetrics};
pub use float_product::float_matmul;
pub use int_matrix::{Clip, IntMatrix, IntOptions};
pub use kernel::{Product, SparseScratch, TernaryKernel, Then};
pub use packed::{Order, PackedMatrix};
pub use packed_linear::PackedLinear;
pub use packing::Packing;
pub use recommend::{LayerErrors, Precision, Recommendation, Threshold, output_error, recommend};
pub use rounding::Rounding;
pub use scaled_product::scaled_matmul;
pub use scales::{Granularity, Scales};
pub use statistics::{Histogram, Statistics};
pub use ternary::TernaryMatrix;
pub use weights::{TernaryOptions, TernaryRule, quantize_matrix, quantize_weights, quantize_weights_with};
