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

pub mod autograd;
pub mod error;
pub mod model;
pub mod nn;
pub mod optim;

pub use autograd::Variable;
pub use error::{Error, Result};
