//! What ternary linears multiply.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// The activations in front of ternary linears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivationMode {
    /// Rounded to int8, with one scale per token: BitNet b1.58.
    Int8,
    /// As they are: models of which the weights alone are ternary.
    Float,
}

impl ActivationMode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Int8, Self::Float];

    /// Name in options and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Float => "float",
        }
    }
}

impl fmt::Display for ActivationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ActivationMode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let (expected, got) = ("int8 or float", name.to_owned());
        let found = Self::ALL.into_iter().find(|mode| mode.name() == name);
        found.ok_or(Error::InvalidOption { name: "activations", expected, got })
    }
}
