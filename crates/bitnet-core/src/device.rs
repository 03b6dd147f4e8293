//! Where a computation runs.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A device by its user-facing name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// Metal where there is a device whose results are right, else the CPU; or what `BITNET_DEVICE` names.
    #[default]
    Auto,
    /// The processor, with the best instruction set it has.
    Cpu,
    /// The GPU of a Mac.
    Metal,
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "metal" => Ok(Self::Metal),
            _ => Err(Error::UnknownDevice(name.to_owned())),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Metal => "metal",
        })
    }
}
