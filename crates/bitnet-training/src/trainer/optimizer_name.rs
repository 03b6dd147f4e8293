//! Optimizers by name.

use crate::named::named;
use crate::optim::MomentFormat;

/// The optimizer of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptimizerName {
    /// [`crate::optim::AdamW`] with moments in float32.
    AdamW,
    /// The same with moments in eight bits: see [`MomentFormat::EightBit`].
    AdamW8Bit,
}

impl OptimizerName {
    /// Every optimizer.
    pub const ALL: [Self; 2] = [Self::AdamW, Self::AdamW8Bit];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::AdamW => "adamw",
            Self::AdamW8Bit => "adamw-8bit",
        }
    }

    pub(super) fn moments(self) -> MomentFormat {
        match self {
            Self::AdamW => MomentFormat::Float32,
            Self::AdamW8Bit => MomentFormat::EightBit,
        }
    }
}

named!(OptimizerName, "optimizer", "adamw or adamw-8bit");
