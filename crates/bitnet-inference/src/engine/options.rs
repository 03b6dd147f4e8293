//! What an engine may use.

use crate::backend::KvType;
use crate::{Error, Result};

/// What an engine may use. The defaults suit a machine that has other things to do as well.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineOptions {
    /// Sequences that run at once.
    pub max_batch: usize,
    /// Bytes of keys and values, which bound how many tokens all sequences hold together.
    pub kv_bytes: usize,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Positions of a sequence, prompt and text together; `None` takes the context of the model, as far as `kv_bytes`
    /// reach.
    pub context: Option<usize>,
    /// Tokens of a step.
    pub step_tokens: usize,
    /// Tokens of prompts in a step in which other sequences decode: what they wait for.
    pub prefill_chunk: usize,
    /// Requests that may wait for a place.
    pub queue: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            max_batch: 32,
            kv_bytes: 2 << 30,
            kv_type: KvType::F16,
            context: None,
            step_tokens: 512,
            prefill_chunk: 64,
            queue: 1024,
        }
    }
}

impl EngineOptions {
    /// Errors: [`Error::InvalidOption`] for a value out of its range.
    pub fn check(&self) -> Result<()> {
        let counts = [
            ("max_batch", self.max_batch),
            ("step_tokens", self.step_tokens),
            ("prefill_chunk", self.prefill_chunk),
            ("queue", self.queue),
            ("context", self.context.unwrap_or(1)),
        ];
        match counts.into_iter().find(|(_, count)| *count == 0) {
            Some((name, _)) => {
                Err(Error::InvalidOption { name, expected: "at least 1", got: "0".to_owned() })
            }
            None if self.step_tokens < self.max_batch => Err(Error::InvalidOption {
                name: "step_tokens",
                expected: "at least max_batch",
                got: self.step_tokens.to_string(),
            }),
            None => Ok(()),
        }
    }
}
