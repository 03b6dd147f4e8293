//! What a run has measured: a line of JSON for each step, and its loss as a curve.

mod curve;
mod log;
mod record;
mod smoothed;

pub use self::curve::{Curve, Series};
pub use self::log::{Record, StepLog, read};
pub use self::record::{LossParts, Metrics};
pub use self::smoothed::smoothed;
