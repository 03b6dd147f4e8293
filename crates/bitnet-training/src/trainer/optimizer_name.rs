//! Optimizers by name.

use std::fmt;
use std::str::FromStr;

use crate::optim::MomentFormat;
use crate::{Error, Result};

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

impl fmt::Display for OptimizerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for OptimizerName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|of| of.name() == name).ok_or_else(|| Error::InvalidOption {
            name: "optimizer",
            expected: "adamw or adamw-8bit",
            got: name.to_owned(),
        })
    }
}
