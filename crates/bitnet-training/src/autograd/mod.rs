//! Reverse-mode differentiation of tensors.
//!
//! A [`Variable`] is a handle to a tensor. An operation on variables computes its value at once and notes how the
//! gradients of its inputs follow from that of its result; [`Variable::backward`] goes through those notes in reverse
//! order of creation. A note holds what its gradient needs and nothing else, and is gone once it was used: the memory of
//! a forward pass comes back while the backward pass runs.
//!
//! One file for each family of operations. All are float32, and their sums are added in an order that depends on the
//! shapes alone: the threads that [`bitnet_core::tensor::with_threads`] lends change no bit.

mod activation;
mod attention;
mod backward;
mod bit_linear;
mod choice;
mod concat;
mod cross_entropy;
mod divergence;
mod elementwise;
mod embedding;
mod estimator;
mod floats;
mod gather;
mod kept;
mod layer_norm;
mod logits;
mod low_rank;
mod matmul;
mod quantized_input;
mod reduce;
mod relation;
mod rms_norm;
mod rope;
mod segments;
mod shape;
mod softmax;
mod ternary_linear;
mod variable;

#[cfg(test)]
mod check;

pub use activation::gate;
pub use attention::attention;
pub use bit_linear::bit_linear;
pub use cross_entropy::{DistilledLoss, IGNORED, SoftTargets, distilled_cross_entropy, linear_cross_entropy};
pub use embedding::embedding;
pub use estimator::Estimator;
pub(crate) use floats::uncleared;
pub use kept::{NoteFormat, with_notes};
pub use layer_norm::layer_norm;
pub use logits::cross_entropy;
pub use low_rank::add_low_rank;
pub use quantized_input::QuantizedInput;
pub use relation::relation_divergence;
pub use rms_norm::rms_norm;
pub use rope::rope;
pub use segments::Segments;
pub use ternary_linear::ternary_linear;
pub use variable::{Variable, is_recording, no_grad, set_recording};
