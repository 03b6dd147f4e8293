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
mod cross_entropy;
mod elementwise;
mod embedding;
mod estimator;
mod floats;
mod kept;
mod logits;
mod matmul;
mod quantized_input;
mod reduce;
mod rms_norm;
mod rope;
mod segments;
mod shape;
mod softmax;
mod variable;

#[cfg(test)]
mod check;

pub use activation::gate;
pub use attention::attention;
pub use bit_linear::bit_linear;
pub use cross_entropy::{IGNORED, linear_cross_entropy};
pub use embedding::embedding;
pub use estimator::Estimator;
pub(crate) use floats::uncleared;
pub use kept::{NoteFormat, with_notes};
pub use logits::cross_entropy;
pub use quantized_input::QuantizedInput;
pub use rms_norm::rms_norm;
pub use rope::rope;
pub use segments::Segments;
pub use variable::{Variable, is_recording, no_grad, set_recording};
