//! The tokens of a GGUF file, and what it says of making texts into them.
//!
//! Source of the keys, of their defaults and of the tokens that end a turn: llama.cpp, `src/llama-vocab.cpp`.

use std::borrow::Cow;

use super::metadata::Metadata;
use crate::Result;

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";

/// Tokens that end a text or a turn wherever they exist.
const ENDS: [&str; 13] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<|end_of_turn|>",
    "<|eot|>",
    "<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
];

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A piece of text.
    Normal,
    /// What stands for text without a token.
    Unknown,
    /// A mark that is no text.
    Control,
    /// A piece of text that is found before all others.
    UserDefined,
    /// Nothing.
    Unused,
    /// One byte.
    Byte,
}

impl TokenKind {
    /// Its number in `tokenizer.ggml.token_type`.
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Unknown => 2,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
            Self::Byte => 6,
        }
    }

    /// What no number names is a piece of text, as in llama.cpp.
    pub(crate) fn of(number: f64) -> Self {
        let all = [Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];
        all.into_iter().find(|kind| f64::from(kind.number()) == number).unwrap_or(Self::Normal)
    }
}

/// The tokens of a file.
#[derive(Debug)]
pub(crate) struct Vocabulary<'a> {
    /// `tokenizer.ggml.model`.
    pub(crate) model: &'a str,
    /// How texts are split first.
    pub(crate) pre_tokenizer: &'a str,
    /// Texts by id; empty ones have a name that no text contains.
    pub(crate) tokens: Vec<Cow<'a, str>>,
    /// Kinds by id.
    pub(crate) kinds: Vec<TokenKind>,
    /// Scores by id, where there are any.
    pub(crate) scores: Option<Vec<f64>>,
    /// Pairs to merge, first to last.
    pub(crate) merges: Vec<(&'a str, &'a str)>,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) unknown: Option<u32>,
    /// All tokens that end a text.
    pub(crate) ends: Vec<u32>,
    pub(crate) add_bos: Option<bool>,
    pub(crate) add_eos: Option<bool>,
    pub(crate) add_space_prefix: Option<bool>,
}

impl<'a> Vocabulary<'a> {
    /// The vocabulary of a file, if it has one.
    pub(super) fn read(metadata: &'a Metadata, pre_tokenizer: &'a str) -> Result<Option<Self>> {
        let model = metadata.text("tokenizer.ggml.model")?.unwrap_or("none");
        if matches!(model, "none" | "no_vocab") {
            return Ok(None);
        }
        let Some(texts) = metadata.texts(TOKENS)? else {
            return Err(metadata.error(TOKENS, "the texts of all tokens", "nothing"));
        };
        let named = |(id, text): (usize, &'a str)| match text {
            "" => Cow::Owned(format!("[EMPTY_{id}]")),
            text => Cow::Borrowed(text),
        };
        let tokens: Vec<Cow<'a, str>> = texts.into_iter().enumerate().map(named).collect();
        let kinds = kinds(metadata, tokens.len())?;
        let scores = metadata.numbers(SCORES)?;
        if let Some(scores) = scores.as_ref().filter(|scores| scores.len() != tokens.len()) {
            return Err(metadata.error(
                SCORES,
                &format!("{} scores", tokens.len()),
                scores.len().to_string(),
            ));
        }
        let id = |key: &str| token_id(metadata, key, tokens.len());
        // SentencePiece vocabularies of Llama have these where the file is silent.
        let default = |id: u32| (model == "llama" && (id as usize) < tokens.len()).then_some(id);
        let eos = id("tokenizer.ggml.eos_token_id")?.or(default(2));
        let others = [id("tokenizer.ggml.eot_token_id")?, id("tokenizer.ggml.eom_token_id")?];
        let mut ends: Vec<u32> = eos.into_iter().chain(others.into_iter().flatten()).collect();
        let is_end = |at: &usize| kinds[*at] == TokenKind::Control && ENDS.contains(&&*tokens[*at]);
        ends.extend((0..tokens.len()).filter(is_end).map(|at| at as u32));
        Ok(Some(Self {
            model,
            pre_tokenizer,
            bos: id("tokenizer.ggml.bos_token_id")?.or(default(1)),
            eos,
            unknown: id("tokenizer.ggml.unknown_token_id")?.or(default(0)),
            ends,
            scores,
            merges: merges(metadata)?,
            add_bos: metadata.flag("tokenizer.ggml.add_bos_token")?,
            add_eos: metadata.flag("tokenizer.ggml.add_eos_token")?,
            add_space_prefix: metadata.flag("tokenizer.ggml.add_space_prefix")?,
            kinds,
            tokens,
        }))
    }

    /// The text of a token.
    pub(crate) fn text(&self, id: Option<u32>) -> Option<&str> {
        id.and_then(|id| self.tokens.get(id as usize)).map(|text| &**text)
    }
}

fn token_id(metadata: &Metadata, key: &str, tokens: usize) -> Result<Option<u32>> {
    match metadata.id(key)? {
        Some(id) if id as usize >= tokens => {
            Err(metadata.error(key, &format!("one of {tokens} tokens"), id.to_string()))
        }
        id => Ok(id),
    }
}

fn kinds(metadata: &Metadata, tokens: usize) -> Result<Vec<TokenKind>> {
    let Some(numbers) = metadata.numbers(TYPES)? else { return Ok(vec![TokenKind::Normal; tokens]) };
    if numbers.len() != tokens {
        return Err(metadata.error(TYPES, &format!("{tokens} types"), numbers.len().to_string()));
    }
    Ok(numbers.into_iter().map(TokenKind::of).collect())
}

/// Pairs are written with a space between them; a token may begin with one.
fn merges(metadata: &Metadata) -> Result<Vec<(&str, &str)>> {
    let texts = metadata.texts(MERGES)?.unwrap_or_default();
    let split = |(at, text): (usize, &'_ str)| {
        let space = text.char_indices().skip(1).find(|(_, c)| *c == ' ');
        let expected = "two tokens with a space between them";
        space
            .map(|(space, _)| (at, space))
            .ok_or_else(|| metadata.error(MERGES, expected, format!("another text at index {at}")))
    };
    let places = texts.iter().copied().enumerate().map(split).collect::<Result<Vec<_>>>()?;
    Ok(places.into_iter().map(|(at, space)| (&texts[at][..space], &texts[at][space + 1..])).collect())
}
