//! The tokenizer that a GGUF file describes, made of the parts that `tokenizer.json` is made of.

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::processors::template::{SpecialToken, TemplateProcessing};
use tokenizers::{AddedToken, Tokenizer};

use super::{pre_tokenizer, sentence_piece};
use crate::checkpoint::gguf::{TokenKind, Vocabulary};

/// The tokenizer of a vocabulary. The error is one line.
pub(super) fn build(vocabulary: &Vocabulary<'_>) -> Result<Tokenizer, String> {
    let (mut tokenizer, adds_bos) = match vocabulary.model {
        "gpt2" => byte_level(vocabulary)?,
        // Sentences begin with the BOS token where the file is silent.
        "llama" => (sentence_piece::build(vocabulary)?, true),
        other => {
            return Err(format!(
                "tokenizer.ggml.model is {other:?}, which is not supported; known: gpt2, llama"
            ));
        }
    };
    let of_kind = |kind: TokenKind| {
        let is_kind = move |(_, of): &(_, &TokenKind)| **of == kind;
        vocabulary.tokens.iter().zip(&vocabulary.kinds).filter(is_kind).map(|(text, _)| text.to_string())
    };
    let control: Vec<AddedToken> =
        of_kind(TokenKind::Control).map(|text| AddedToken::from(text, true)).collect();
    let defined: Vec<AddedToken> =
        of_kind(TokenKind::UserDefined).map(|text| AddedToken::from(text, false).normalized(false)).collect();
    tokenizer.add_special_tokens(&control);
    tokenizer.add_tokens(&defined);
    let bos = vocabulary.add_bos.unwrap_or(adds_bos).then_some(("add_bos_token", vocabulary.bos));
    let eos = vocabulary.add_eos.unwrap_or(false).then_some(("add_eos_token", vocabulary.eos));
    if bos.is_some() || eos.is_some() {
        tokenizer.with_post_processor(Some(template(vocabulary, bos, eos)?));
    }
    Ok(tokenizer)
}

/// Byte-pair encoding over bytes, and whether texts begin with the BOS token where the file is silent.
fn byte_level(vocabulary: &Vocabulary<'_>) -> Result<(Tokenizer, bool), String> {
    if vocabulary.merges.is_empty() {
        return Err("tokenizer.ggml.merges is missing".to_owned());
    }
    let split = pre_tokenizer::find(vocabulary.pre_tokenizer)?;
    let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    let model = BPE::builder()
        .vocab_and_merges(ids(vocabulary)?, vocabulary.merges.iter().map(own).collect())
        .ignore_merges(split.takes_whole_words)
        .build()
        .map_err(|error| format!("tokenizer.ggml.merges: {error}"))?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(split.build()?));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok((tokenizer, split.adds_bos))
}

/// Ids by text.
///
/// Errors: a text that two tokens have.
pub(super) fn ids(vocabulary: &Vocabulary<'_>) -> Result<Vocab, String> {
    let mut ids = Vocab::with_capacity(vocabulary.tokens.len());
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        if let Some(first) = ids.insert(text.to_string(), id as u32) {
            let text: String = text.chars().take(40).collect();
            return Err(format!("tokenizer.ggml.tokens: {first} and {id} are both {text:?}"));
        }
    }
    Ok(ids)
}

/// What stands around every text. Names in a template cannot hold every text, so tokens go by other names.
fn template(
    vocabulary: &Vocabulary<'_>,
    bos: Option<(&str, Option<u32>)>,
    eos: Option<(&str, Option<u32>)>,
) -> Result<TemplateProcessing, String> {
    let token = |name: &str, (key, id): (&str, Option<u32>)| {
        let text = vocabulary.text(id).map(str::to_owned);
        let missing = || format!("tokenizer.ggml.{key} is set, but there is no such token");
        let (id, text) = id.zip(text).ok_or_else(missing)?;
        SpecialToken::new(name.to_owned(), vec![id], vec![text]).map_err(|error| error.to_string())
    };
    let bos = bos.map(|bos| token("bos", bos)).transpose()?;
    let eos = eos.map(|eos| token("eos", eos)).transpose()?;
    let pieces = [bos.as_ref().map(|_| "bos"), Some("$A"), eos.as_ref().map(|_| "eos")];
    let pieces: Vec<String> = pieces.into_iter().flatten().map(str::to_owned).collect();
    TemplateProcessing::builder()
        .try_single(pieces)?
        .special_tokens(bos.into_iter().chain(eos).collect::<Vec<_>>())
        .build()
        .map_err(|error| error.to_string())
}
