//! Text to token ids and back.

use std::sync::Arc;

use bitnet_inference::LoadedModel;
use pyo3::prelude::*;

use crate::error::Failure;
use crate::ids::token_ids;

/// The tokenizer of a checkpoint.
#[pyclass(frozen, module = "bitnet_rust")]
pub(crate) struct Tokenizer {
    model: Arc<LoadedModel>,
}

impl Tokenizer {
    pub(crate) fn new(model: Arc<LoadedModel>) -> Result<Self, Failure> {
        model.tokenizer()?;
        Ok(Self { model })
    }
}

#[pymethods]
impl Tokenizer {
    /// Token ids of text; with add_special_tokens what the checkpoint adds to every text, usually the BOS token.
    #[pyo3(signature = (text, add_special_tokens = true))]
    fn encode(&self, py: Python<'_>, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, Failure> {
        Ok(py.detach(|| self.model.tokenizer()?.encode(text, add_special_tokens))?)
    }

    /// The text of token ids. Bytes that form no character become U+FFFD.
    #[pyo3(signature = (ids, skip_special_tokens = true))]
    fn decode(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        skip_special_tokens: bool,
    ) -> Result<String, Failure> {
        let ids = token_ids("ids", ids)?;
        Ok(py.detach(|| self.model.tokenizer()?.decode(&ids, skip_special_tokens))?)
    }

    /// Number of tokens, added ones included.
    #[getter]
    fn vocab_size(&self) -> Result<usize, Failure> {
        Ok(self.model.tokenizer()?.vocab_size())
    }

    fn __repr__(&self) -> Result<String, Failure> {
        let tokenizer = self.model.tokenizer()?;
        Ok(format!("Tokenizer({}, vocabulary {})", tokenizer.kind(), tokenizer.vocab_size()))
    }
}
