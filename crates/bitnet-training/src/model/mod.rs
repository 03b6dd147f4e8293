//! The decoder transformer of a checkpoint, to be trained.

mod adapted;
mod block;
mod decoder;
mod load;
mod projection;

pub use adapted::AdaptedLinear;
pub use block::{Attention, Block, Heads, Mlp};
pub use decoder::{Decoder, States};
pub use projection::{Projection, ProjectionInput};
