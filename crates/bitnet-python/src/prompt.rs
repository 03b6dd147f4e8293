//! Prompts as Python gives them.

use bitnet_inference::Prompt;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::Failure;
use crate::ids::token_ids;

/// A text or token ids.
pub(crate) enum OwnedPrompt {
    Text(String),
    Ids(Vec<u32>),
}

impl OwnedPrompt {
    pub(crate) fn new(prompt: &Bound<'_, PyAny>) -> Result<Self, Failure> {
        match prompt.cast::<PyString>() {
            Ok(text) => Ok(Self::Text(text.to_cow()?.into_owned())),
            Err(_) => Ok(Self::Ids(token_ids("prompt", prompt)?)),
        }
    }

    pub(crate) fn get(&self) -> Prompt<'_> {
        match self {
            Self::Text(text) => Prompt::Text(text),
            Self::Ids(ids) => Prompt::Ids(ids),
        }
    }
}
