//! SentencePiece vocabularies of Llama models: byte-pair encoding by score, with bytes for what has no token.
//!
//! Such a vocabulary names no merges. Two neighbours merge when their text is a token, the token of the highest score
//! first; so every way to cut a token in two tokens is a merge, in the order of the scores. Behind a special token, too,
//! a text begins with a space, as in llama.cpp and transformers; SentencePiece itself puts one in front only. Sources: SentencePiece,
//! `bpe_model.cc`; transformers 5.23, `convert_slow_tokenizer.py` (`generate_merges`, `LlamaConverter`).

use std::cmp::Reverse;

use tokenizers::Tokenizer;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence as Normalizers};

use super::gguf::ids;
use crate::checkpoint::gguf::{TokenKind, Vocabulary};

/// What stands for a space.
const SPACE: &str = "▁";

/// The tokenizer, without special tokens.
pub(super) fn build(vocabulary: &Vocabulary<'_>) -> Result<Tokenizer, String> {
    let ids = ids(vocabulary)?;
    let has_bytes = vocabulary.kinds.contains(&TokenKind::Byte);
    let unknown = vocabulary.text(vocabulary.unknown);
    if unknown.is_none() && !has_bytes {
        return Err("there is neither a token for unknown text nor one for each byte".to_owned());
    }
    let merges = merges(vocabulary, &ids);
    let mut model = BPE::builder().vocab_and_merges(ids, merges).byte_fallback(has_bytes).fuse_unk(true);
    if let Some(unknown) = unknown {
        model = model.unk_token(unknown.to_owned());
    }
    let mut tokenizer = Tokenizer::new(model.build().map_err(|error| error.to_string())?);
    // Texts begin with a space where the file is silent.
    let has_prefix = vocabulary.add_space_prefix.unwrap_or(true);
    let replace = |from: &str, to: &str| Replace::new(from, to).map_err(|error| error.to_string());
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    if has_prefix {
        normalizers.push(Prepend::new(SPACE.to_owned()).into());
    }
    normalizers.push(replace(" ", SPACE)?.into());
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers)));
    let mut decoders: Vec<DecoderWrapper> =
        vec![replace(SPACE, " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
    if has_prefix {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_decoder(Some(Decoders::new(decoders)));
    Ok(tokenizer)
}

/// Every way to cut a token in two, those of the highest score first; equal ones in the order of their ids, which is
/// the order of the merges in files whose converter lost the scores.
fn merges(vocabulary: &Vocabulary<'_>, ids: &Vocab) -> Merges {
    let is_text =
        |id: u32| matches!(vocabulary.kinds[id as usize], TokenKind::Normal | TokenKind::UserDefined);
    let score = |id: u32| vocabulary.scores.as_ref().map_or(0.0, |scores| scores[id as usize]);
    let mut found = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate().filter(|(id, _)| is_text(*id as u32)) {
        for (cut, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(cut);
            let is_piece = |text: &str| ids.get(text).is_some_and(|&id| is_text(id));
            if is_piece(left) && is_piece(right) {
                found.push((id as u32, left, right));
            }
        }
    }
    // Of the cuts of one token, that with the longest left part first.
    found.sort_by(|a, b| {
        score(b.0).total_cmp(&score(a.0)).then((a.0, Reverse(a.1.len())).cmp(&(b.0, Reverse(b.1.len()))))
    });
    found.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use serde::Deserialize;

    use super::*;
    use crate::tokenizer::gguf;

    /// A vocabulary that `SentencePiece` 0.2.3 was trained to, and texts as it encodes them.
    #[derive(Deserialize)]
    struct Fixture {
        tokens: Vec<String>,
        scores: Vec<f64>,
        kinds: Vec<i32>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        text: String,
        ids: Vec<u32>,
    }

    fn fixture() -> Fixture {
        let text = include_str!("../../../../tests/fixtures/sentencepiece.json");
        serde_json::from_str(text).unwrap()
    }

    fn vocabulary(fixture: &Fixture, scores: Option<Vec<f64>>) -> Vocabulary<'_> {
        Vocabulary {
            model: "llama",
            pre_tokenizer: "",
            tokens: fixture.tokens.iter().map(|token| token.as_str().into()).collect(),
            kinds: fixture.kinds.iter().map(|&kind| TokenKind::of(f64::from(kind))).collect(),
            scores,
            merges: Vec::new(),
            bos: Some(1),
            eos: Some(2),
            unknown: Some(0),
            ends: vec![2],
            add_bos: None,
            add_eos: None,
            add_space_prefix: None,
        }
    }

    #[test]
    fn texts_are_encoded_as_sentence_piece_does() {
        let fixture = fixture();
        let tokenizer = gguf::build(&vocabulary(&fixture, Some(fixture.scores.clone()))).unwrap();
        for Case { text, ids } in &fixture.cases {
            let got = tokenizer.encode_fast(text.as_str(), false).unwrap();
            assert_eq!(got.get_ids(), ids, "{text:?}");
            let with_bos = tokenizer.encode_fast(text.as_str(), true).unwrap();
            assert_eq!(with_bos.get_ids(), [&[1], &ids[..]].concat(), "{text:?}");
            assert_eq!(tokenizer.decode(ids, true).unwrap(), *text);
        }
    }

    #[test]
    fn the_bytes_of_a_text_are_those_of_its_tokens() {
        let fixture = fixture();
        let inner = gguf::build(&vocabulary(&fixture, Some(fixture.scores.clone()))).unwrap();
        let tokenizer = crate::Tokenizer { path: "fixture".into(), inner, fingerprint: OnceLock::default() };
        let bytes = tokenizer.token_bytes(fixture.tokens.len()).unwrap();
        for Case { text, ids } in &fixture.cases {
            let got: Vec<u8> = ids.iter().flat_map(|&id| bytes.get(id)).copied().collect();
            assert_eq!(String::from_utf8(got).unwrap().strip_prefix(' ').unwrap_or(""), text);
        }
    }

    #[test]
    fn ids_stand_in_for_lost_scores() {
        let fixture = fixture();
        let tokenizer =
            gguf::build(&vocabulary(&fixture, Some(vec![-1000.0; fixture.tokens.len()]))).unwrap();
        for Case { text, ids } in &fixture.cases {
            assert_eq!(tokenizer.encode_fast(text.as_str(), false).unwrap().get_ids(), ids, "{text:?}");
        }
    }
}
