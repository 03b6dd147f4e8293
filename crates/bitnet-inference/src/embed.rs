//! Texts as vectors.

use std::path::PathBuf;

use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::LAST_TOKEN;
use crate::{Error, LoadedModel, Result};

/// The file of sentence-transformers that says how a text's vector is made of those of its tokens.
const POOLING: &str = "1_Pooling/config.json";

/// What the numbers of `pooling_type` in GGUF stand for. Source: llama.cpp, `include/llama.h`.
const POOLING_TYPES: [&str; 5] = ["none", "mean", "cls", "last", "rank"];

#[derive(Deserialize)]
struct RawPooling {
    #[serde(default)]
    pooling_mode_lasttoken: bool,
}

/// How the vector of a text is made of those of its tokens.
#[derive(Debug)]
pub(crate) enum Pooling {
    /// It is that of the last one.
    LastToken,
    /// Otherwise, as this file says.
    Unknown { path: PathBuf, reason: String },
}

impl Pooling {
    /// What a checkpoint says; that of the last token where it says nothing.
    pub(crate) fn read(checkpoint: &Checkpoint) -> Result<Self> {
        if let Some(file) = checkpoint.gguf() {
            return Ok(match file.pooling() {
                None | Some(LAST_TOKEN) => Self::LastToken,
                Some(other) => {
                    let name = POOLING_TYPES.get(other).copied().unwrap_or("unknown");
                    let reason = format!(
                        "asks for another pooling than that of the last token, the only one there is: \
                         pooling_type {other} ({name}); the option gguf=\"pooling=last\" takes it"
                    );
                    Self::Unknown { path: checkpoint.path().to_owned(), reason }
                }
            });
        }
        let raw: Option<RawPooling> = checkpoint.json(POOLING)?;
        Ok(match raw {
            Some(raw) if !raw.pooling_mode_lasttoken => Self::Unknown {
                path: checkpoint.file_path(POOLING),
                reason: "asks for another pooling than that of the last token, the only one there is"
                    .to_owned(),
            },
            _ => Self::LastToken,
        })
    }
}

impl LoadedModel {
    /// Texts as vectors, `[texts, hidden_size]`, one text after another: see [`Self::embed_text`].
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(texts.len() * self.config().hidden_size);
        for text in texts {
            all.extend(self.embed_text(text)?);
        }
        Ok(all)
    }

    /// A text as a vector of length 1: `h / |h|`, with `h` what the last norm gives for the last token.
    ///
    /// The text is encoded with the special tokens of the tokenizer, which end the texts of embedding models.
    ///
    /// Errors: [`Error::Config`] for a checkpoint that asks for another pooling, [`Error::Tokenizer`],
    /// [`Error::EmptyPrompt`], [`Error::ContextLength`], [`Error::NotFinite`].
    pub fn embed_text(&self, text: &str) -> Result<Vec<f32>> {
        if let Pooling::Unknown { path, reason } = self.pooling() {
            return Err(Error::config(path, reason));
        }
        self.embed_ids(&self.tokenizer()?.encode(text, true)?)
    }

    /// [`Self::embed_text`] of token ids.
    pub fn embed_ids(&self, ids: &[u32]) -> Result<Vec<f32>> {
        self.check_ids(ids)?;
        let context_length = self.config().context_length;
        if ids.len() > context_length {
            return Err(Error::ContextLength { prompt_tokens: ids.len(), context_length });
        }
        let mut sequence = self.backend().start(ids.len())?;
        let mut rest = ids;
        while !rest.is_empty() {
            let (next, behind) = rest.split_at(sequence.chunk().min(rest.len()));
            sequence.feed(next, usize::from(behind.is_empty()))?;
            rest = behind;
        }
        let hidden = sequence.hidden(1)?;
        let square: f64 = hidden.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        if !square.is_finite() {
            return Err(Error::NotFinite { what: "an embedding".to_owned() });
        }
        let length = square.sqrt().max(1e-12);
        Ok(hidden.iter().map(|x| (f64::from(*x) / length) as f32).collect())
    }
}
