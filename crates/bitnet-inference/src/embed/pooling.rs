//! How the vector of a text is made of those of its tokens.

use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::{LAST_TOKEN, MEAN};
use crate::{Error, Result};

/// The file of sentence-transformers that says it.
const POOLING: &str = "1_Pooling/config.json";

/// What the numbers of `pooling_type` in GGUF stand for. Source: llama.cpp, `include/llama.h`.
const POOLING_TYPES: [&str; 5] = ["none", "mean", "cls", "last", "rank"];

/// How the vector of a text is made of those of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// It is that of the last one.
    Last,
    /// It is the mean of all, special tokens included.
    Mean,
}

impl FromStr for Pooling {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "last" => Ok(Self::Last),
            "mean" => Ok(Self::Mean),
            got => {
                Err(Error::InvalidOption { name: "pooling", expected: "last or mean", got: got.to_owned() })
            }
        }
    }
}

/// What a checkpoint asks for.
#[derive(Debug)]
pub(crate) enum AskedPooling {
    /// One that there is.
    Known(Pooling),
    /// Another, as this file says.
    Unknown { path: PathBuf, reason: String },
}

impl AskedPooling {
    /// What a checkpoint says; that of the last token where it says nothing.
    pub(crate) fn read(checkpoint: &Checkpoint) -> Result<Self> {
        if let Some(file) = checkpoint.gguf() {
            return Ok(match file.pooling() {
                None | Some(LAST_TOKEN) => Self::Known(Pooling::Last),
                Some(MEAN) if !has_own_norms(checkpoint) => Self::Known(Pooling::Mean),
                Some(MEAN) => Self::not_known(
                    checkpoint,
                    MEAN,
                    "asks for a pooling that its converter writes where it knows none",
                ),
                Some(other) => {
                    Self::not_known(checkpoint, other, "asks for another pooling than those there are")
                }
            });
        }
        let Some(raw) = checkpoint.json::<Map<String, Value>>(POOLING)? else {
            return Ok(Self::Known(Pooling::Last));
        };
        // The vectors of several modes are put in a row.
        let is_on = |value: &Value| *value == Value::Bool(true);
        let modes = raw.iter().filter(|(_, value)| is_on(value)).map(|(key, _)| key.as_str());
        let modes: Vec<&str> = modes.filter_map(|key| key.strip_prefix("pooling_mode_")).collect();
        Ok(match modes[..] {
            ["lasttoken"] => Self::Known(Pooling::Last),
            ["mean_tokens"] => Self::Known(Pooling::Mean),
            _ => Self::Unknown {
                path: checkpoint.file_path(POOLING),
                reason: format!(
                    "asks for another pooling than the last token's and the mean: {}; the option pooling takes one \
                     of these",
                    if modes.is_empty() { "none".to_owned() } else { modes.join(" and ") }
                ),
            },
        })
    }

    fn not_known(checkpoint: &Checkpoint, number: usize, fact: &str) -> Self {
        let name = POOLING_TYPES.get(number).copied().unwrap_or("unknown");
        let reason = format!(
            "{fact}: pooling_type {number} ({name}); pooling=\"mean\" takes the mean, and where the last token is meant, \
             gguf=\"pooling=last\" takes it"
        );
        Self::Unknown { path: checkpoint.path().to_owned(), reason }
    }

    /// The pooling that there is.
    ///
    /// Errors: [`Error::Config`] where it is another.
    pub(super) fn known(&self) -> Result<Pooling> {
        match self {
            Self::Known(pooling) => Ok(*pooling),
            Self::Unknown { path, reason } => Err(Error::config(path, reason)),
        }
    }
}

/// Whether it is a BitNet embedding model, with a norm in front of each projection. Their converter
/// (`microsoft/BitNet`, `utils/convert-bitnet-embedding-to-gguf.py`) writes the mean where it finds no setting, though
/// these models use the last token.
fn has_own_norms(checkpoint: &Checkpoint) -> bool {
    checkpoint.tensor_names().any(|name| name.ends_with("_proj.norm.weight"))
}
