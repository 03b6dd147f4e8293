//! Quantization-aware training of BitNet b1.58.
//!
//! The forward product of a `BitLinear` layer is the integer kernel that inference runs, the backward pass takes the
//! derivative of each rounding to be 1: training and inference cannot drift apart.
//!
//! | room | what |
//! |---|---|
//! | [`autograd`] | variables, the tape, and operations with their gradients |
//! | [`nn`] | layers with parameters |
//! | [`model`] | the decoder transformer of a checkpoint |
//! | [`optim`] | optimizers, schedules, gradient clipping |
//! | [`distillation`] | losses of a student beside its teacher |
//! | [`data`] | texts as sequences of tokens, in an order that goes on |
//! | [`checkpoint`] | what a run goes on from |
//! | [`guard`] | losses that are no number, or rise |
//! | [`metrics`] | a log of a run, and its curve |
//! | [`trainer`] | all of it together: a run, from texts to a model |

pub mod autograd;
mod byte_tokenizer;
pub mod checkpoint;
pub mod data;
pub mod distillation;
pub mod error;
pub mod guard;
mod hash;
mod mapped;
pub mod metrics;
pub mod model;
mod named;
pub mod nn;
pub mod optim;
pub mod trainer;

pub use autograd::Variable;
pub use byte_tokenizer::ByteTokenizer;
pub use error::{Error, Result};
