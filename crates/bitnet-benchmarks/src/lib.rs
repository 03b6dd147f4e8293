//! What `bitnet bench` and the criterion benches run: synthetic models, tests, and the peaks to compare with.

pub mod allocation_trace;
mod batch;
mod cases;
pub mod peak_memory;
mod peaks;
mod row;
mod subject;
pub mod synthetic;
mod test;

pub use cases::{Case, SHAPES, Shape};
pub use peaks::{PeakMeter, Peaks};
pub use row::{Row, Spread};
pub use subject::Subject;
pub use synthetic::Synthetic;
pub use test::{DECODE_PROMPT, Measurement, Test};
