//! What the benches run on.

mod cases;

pub use cases::{Case, SHAPES, Shape};
