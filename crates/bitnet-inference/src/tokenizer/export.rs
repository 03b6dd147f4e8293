//! The vocabulary of a `tokenizer.json` as the keys of a GGUF file.

use serde::Deserialize;
use serde_json::Value;

use super::{Tokenizer, pre_tokenizer};
use crate::Result;
use crate::checkpoint::gguf::{TokenKind, Writer};
use crate::config::ModelConfig;

/// What a GGUF file needs of a tokenizer and its parts do not give away otherwise.
#[derive(Deserialize)]
struct Parts {
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    r#type: String,
    #[serde(default)]
    ignore_merges: bool,
    #[serde(default)]
    merges: Vec<(String, String)>,
}

impl Tokenizer {
    /// Writes the vocabulary.
    ///
    /// Errors: [`crate::Error::Tokenizer`] for one that is not byte-pair encoding over bytes with a pre-tokenizer that
    /// GGUF has a name for: it would be another tokenizer there.
    pub(crate) fn write(&self, writer: &mut Writer, config: &ModelConfig) -> Result<()> {
        let error = |reason: &str| self.refuse(format!("cannot be written to GGUF: {reason}"));
        let json = serde_json::to_value(&self.inner).map_err(|cause| error(&cause.to_string()))?;
        let parts: Parts = serde_json::from_value(json).map_err(|cause| error(&cause.to_string()))?;
        if parts.model.r#type != "BPE" || parts.normalizer.is_some() {
            return Err(error("it is not byte-pair encoding of the plain text"));
        }
        let pre = pre_tokenizer::name(parts.pre_tokenizer.as_ref(), parts.model.ignore_merges);
        let pre = pre.ok_or_else(|| error("how it splits texts has no name there"))?;
        let (tokens, kinds) = self.tokens(config.vocab_size).map_err(|reason| error(&reason))?;
        writer.text("tokenizer.ggml.model", "gpt2");
        writer.text("tokenizer.ggml.pre", pre);
        writer.texts("tokenizer.ggml.tokens", tokens.iter().map(String::as_str));
        writer.integers("tokenizer.ggml.token_type", &kinds);
        let merges: Vec<String> = parts.model.merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
        writer.texts("tokenizer.ggml.merges", merges.iter().map(String::as_str));
        self.write_special(writer, config)
    }

    /// Texts and kinds by id; rows of the embedding without a token get a name.
    fn tokens(&self, rows: usize) -> Result<(Vec<String>, Vec<i32>), String> {
        let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
        let mut kinds = vec![TokenKind::Unused.number(); rows];
        let added = self.inner.get_added_tokens_decoder();
        for (text, id) in self.inner.get_vocab(true) {
            let Some(token) = tokens.get_mut(id as usize) else {
                return Err(format!("token {id} has no row in the embedding of {rows}"));
            };
            *token = text;
            let kind = match added.get(&id) {
                None => TokenKind::Normal,
                Some(token) if token.special => TokenKind::Control,
                Some(_) => TokenKind::UserDefined,
            };
            kinds[id as usize] = kind.number();
        }
        Ok((tokens, kinds))
    }

    fn write_special(&self, writer: &mut Writer, config: &ModelConfig) -> Result<()> {
        let around = self.encode("a", true)?;
        let plain = self.encode("a", false)?;
        let adds_bos = config.bos.is_some() && around.first() == config.bos.as_ref() && around != plain;
        let end = around.last().copied().filter(|_| around.len() > plain.len() + usize::from(adds_bos));
        if let Some(bos) = config.bos {
            writer.count("tokenizer.ggml.bos_token_id", bos as usize)?;
        }
        // The first ends a text, and is what is put behind it; the second ends a turn.
        let keys = ["eos_token_id", "eot_token_id", "eom_token_id"];
        let others = config.eos.iter().copied().filter(|id| end != Some(*id));
        for (key, id) in keys.iter().zip(end.into_iter().chain(others)) {
            writer.count(&format!("tokenizer.ggml.{key}"), id as usize)?;
        }
        writer.flag("tokenizer.ggml.add_bos_token", adds_bos);
        writer.flag("tokenizer.ggml.add_eos_token", end.is_some());
        Ok(())
    }
}
