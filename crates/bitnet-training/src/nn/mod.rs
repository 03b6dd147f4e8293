//! Layers: parameters and what is computed with them.

mod bit_linear;
mod embedding;
mod initializer;
mod linear;
mod lora;
mod parameter;
mod rms_norm;

pub use bit_linear::BitLinear;
pub use embedding::Embedding;
pub use initializer::Initializer;
pub use linear::Linear;
pub use lora::{Lora, LoraOptions};
pub use parameter::{Module, Parameter};
pub use rms_norm::RmsNorm;
