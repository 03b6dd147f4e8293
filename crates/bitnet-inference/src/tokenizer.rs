//! Text to token ids and back, by the checkpoint's own `tokenizer.json` or the vocabulary of its GGUF file.

mod bytes;
mod export;
mod gguf;
mod pre_tokenizer;
mod sentence_piece;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::checkpoint::Checkpoint;
use crate::{Error, Result};

pub(crate) use bytes::TokenBytes;

pub(crate) const TOKENIZER: &str = "tokenizer.json";

/// The tokenizer of a checkpoint.
#[derive(Debug)]
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    /// Of its tokens by their ids, once somebody asked.
    fingerprint: OnceLock<u64>,
}

impl Tokenizer {
    /// Reads the tokenizer of a checkpoint, if it has one.
    ///
    /// Errors: [`Error::Tokenizer`] when it is damaged.
    pub fn read(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        let path = checkpoint.file_path(TOKENIZER);
        let error = |reason: String| Error::Tokenizer { path: path.clone(), reason };
        if let Some(file) = checkpoint.gguf() {
            let Some(vocabulary) = file.vocabulary()? else { return Ok(None) };
            let inner = gguf::build(&vocabulary).map_err(|reason| error(one_line(&reason)))?;
            return Ok(Some(Self { path, inner, fingerprint: OnceLock::new() }));
        }
        let Some(bytes) = checkpoint.file(TOKENIZER)? else { return Ok(None) };
        // In two steps: the tokenizers crate panics on some texts that are not JSON.
        let json: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|reason| error(reason.to_string()))?;
        let mut inner: tokenizers::Tokenizer =
            serde_json::from_value(json).map_err(|reason| error(one_line(&reason.to_string())))?;
        // A tokenizer saved while training may cut or pad every text.
        inner.with_truncation(None).map_err(|reason| error(one_line(&reason.to_string())))?;
        inner.with_padding(None);
        Ok(Some(Self { path, inner, fingerprint: OnceLock::new() }))
    }

    /// What to say of a checkpoint without a tokenizer when text is asked of it.
    pub(crate) fn missing(checkpoint: &Checkpoint) -> (PathBuf, &'static str) {
        let has_sentence_piece = checkpoint.file("tokenizer.model").is_ok_and(|file| file.is_some());
        let reason = match checkpoint.gguf() {
            Some(_) => "has no tokenizer",
            None if has_sentence_piece => {
                "is missing, and tokenizer.model alone is not read; save the tokenizer with transformers \
                 (AutoTokenizer.from_pretrained(...).save_pretrained(...)) to get it"
            }
            None => "is missing",
        };
        (checkpoint.file_path(TOKENIZER), reason)
    }

    /// Token ids of `text`. With `add_special_tokens` the post-processor adds what it adds, usually the BOS token.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding =
            self.inner.encode_fast(text, add_special_tokens).map_err(|error| self.error(&error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`. Bytes that form no character become U+FFFD; ids without a token are passed over.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        self.inner.decode(ids, skip_special_tokens).map_err(|error| self.error(&error))
    }

    /// The text of one token as the vocabulary has it, special tokens included.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Whether an id is the same token for both, special tokens included.
    pub(crate) fn has_tokens_of(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint()
    }

    fn fingerprint(&self) -> u64 {
        *self.fingerprint.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            (0..self.vocab_size() as u32).for_each(|id| self.token(id).hash(&mut hasher));
            hasher.finish()
        })
    }

    /// The kind of model inside, as `tokenizer.json` names it.
    pub fn kind(&self) -> &'static str {
        match self.inner.get_model() {
            tokenizers::ModelWrapper::BPE(_) => "BPE",
            tokenizers::ModelWrapper::Unigram(_) => "Unigram",
            tokenizers::ModelWrapper::WordPiece(_) => "WordPiece",
            tokenizers::ModelWrapper::WordLevel(_) => "WordLevel",
        }
    }

    /// The content of a `tokenizer.json`.
    ///
    /// Errors: [`Error::Tokenizer`] for parts that have no such form.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(|error| self.error(&error))
    }

    fn error(&self, error: &tokenizers::Error) -> Error {
        self.refuse(one_line(&error.to_string()))
    }

    fn refuse(&self, reason: String) -> Error {
        Error::Tokenizer { path: self.path.clone(), reason }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
