//! Checkpoints in other formats.

mod gguf;
mod head;

pub use gguf::{Converted, GgufTarget, GgufWeights, to_gguf};
pub use head::HeadType;
