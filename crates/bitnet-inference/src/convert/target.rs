//! The forms in which a model is written.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::GgufWeights;
use super::hf::HfForm;
use crate::{Error, Result};

/// A form of checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A Hugging Face folder.
    Hf(HfForm),
    /// A GGUF file.
    Gguf(GgufWeights),
}

impl Target {
    /// Every form.
    pub const ALL: [Self; 6] = [
        Self::Hf(HfForm::Multiply),
        Self::Hf(HfForm::Divide),
        Self::Hf(HfForm::Master),
        Self::Gguf(GgufWeights::I2S),
        Self::Gguf(GgufWeights::Tq2_0),
        Self::Gguf(GgufWeights::Tq1_0),
    ];

    /// Name on the command line and in Python.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hf(form) => form.name(),
            Self::Gguf(weights) => weights.name(),
        }
    }

    /// The form that a name asks for: `I2_S` for a file that ends in `.gguf`, else the packed folder.
    pub fn of_path(path: &Path) -> Self {
        match path.extension() {
            Some(extension) if extension == "gguf" => Self::Gguf(GgufWeights::I2S),
            _ => Self::Hf(HfForm::Multiply),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name).ok_or_else(|| Error::InvalidOption {
            name: "to",
            expected: "hf, hf-bitlinear, bf16, gguf-i2_s, gguf-tq2_0 or gguf-tq1_0",
            got: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_the_message_lists_them_all() {
        for target in Target::ALL {
            assert_eq!(target.name().parse::<Target>().unwrap(), target);
        }
        let error = "onnx".parse::<Target>().unwrap_err().to_string();
        assert!(Target::ALL.iter().all(|target| error.contains(target.name())), "{error}");
    }

    #[test]
    fn the_ending_of_a_path_says_enough() {
        assert_eq!(Target::of_path(Path::new("a/b.gguf")).name(), "gguf-i2_s");
        assert_eq!(Target::of_path(Path::new("a/b")).name(), "hf");
    }
}
