//! Texts and conversations to tokens, as inference reads them.

use bitnet_core::ThreadPool;
use bitnet_inference::{ChatTemplate, Message, Tokenizer};

use super::conversation::{self, Piece};
use super::documents::Documents;
use super::in_order::in_order;
use crate::{Error, Result};

/// Bytes of a text that a thread tokenizes at once.
const CHUNK: usize = 1 << 20;

/// Bytes on both sides of a cut that must have the same tokens with it and without.
const WINDOW: usize = 256;

/// Writes texts as tokens.
#[derive(Debug)]
pub(super) struct Encoder<'t> {
    tokenizer: &'t Tokenizer,
    /// What the tokenizer puts in front of a text.
    before: Vec<u32>,
    /// What it puts behind, and the token that ends a text.
    after: Vec<u32>,
    /// Whether the tokens of two texts are tokens of the text of both.
    joins: bool,
    chunk: usize,
}

impl<'t> Encoder<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, end: Option<u32>) -> Result<Self> {
        let (plain, around) = (tokenizer.encode("a", false)?, tokenizer.encode("a", true)?);
        let at = around.windows(plain.len().max(1)).position(|ids| ids == plain);
        let (before, after) = match at {
            Some(at) => (around[..at].to_vec(), &around[at + plain.len()..]),
            None => (Vec::new(), &[][..]),
        };
        // Some tokenizers add the end themselves.
        let end = end.filter(|end| after.last() != Some(end));
        let after = after.iter().copied().chain(end).collect();
        let twice = [&plain[..], &plain[..]].concat();
        let joins = tokenizer.decode(&twice, false)? == "aa";
        Ok(Self { tokenizer, before, after, joins, chunk: CHUNK })
    }

    /// Adds a document.
    pub(super) fn text(&self, text: &str, documents: &mut Documents) -> Result<()> {
        documents.begin();
        documents.extend(&self.before, true);
        documents.extend(&self.tokenizer.encode(text, false)?, true);
        documents.extend(&self.after, true);
        Ok(())
    }

    /// One document, which may be long. `progress` is called with the bytes of each part that is done.
    pub(super) fn long_text(
        &self,
        text: &str,
        pool: &ThreadPool,
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Documents> {
        let mut documents = Documents::default();
        documents.begin();
        documents.extend(&self.before, true);
        let encode = |part: &&str| Ok(self.tokenizer.encode(part, false)?);
        in_order(pool, &self.parts(text)?, encode, |part, ids| {
            documents.extend(&ids, true);
            progress(part.len())
        })?;
        documents.extend(&self.after, true);
        Ok(documents)
    }

    /// Adds a conversation whose answers are to be learnt. Each piece is tokenized by itself: an answer is a continuation
    /// of the tokens that inference reads, and shares none with them.
    pub(super) fn conversation(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
        documents: &mut Documents,
        refuse: impl Fn(String) -> Error,
    ) -> Result<()> {
        let pieces = conversation::pieces(template, messages).map_err(&refuse)?;
        if !self.joins && pieces.len() > 1 {
            return Err(refuse(
                "the tokenizer cannot read a conversation in pieces: it changes the beginning of texts"
                    .to_owned(),
            ));
        }
        documents.begin();
        let bos = template.bos_token();
        let has_bos = !bos.is_empty() && pieces.first().is_some_and(|piece| piece.text.starts_with(bos));
        if !has_bos {
            documents.extend(&self.before, false);
        }
        for Piece { text, is_answer } in pieces {
            documents.extend(&self.tokenizer.encode(&text, false)?, is_answer);
        }
        Ok(())
    }

    /// Parts to tokenize by themselves, cut at ends of lines where that changes no token.
    fn parts<'a>(&self, text: &'a str) -> Result<Vec<&'a str>> {
        let (mut parts, mut start, mut at) = (Vec::new(), 0, self.chunk);
        while self.joins && at < text.len() {
            let Some(line) = text.as_bytes()[at..].iter().position(|&byte| byte == b'\n') else { break };
            at += line + 1;
            if self.is_whole(text, at)? {
                parts.push(&text[start..at]);
                (start, at) = (at, at.saturating_add(self.chunk));
            }
        }
        parts.push(&text[start..]);
        Ok(parts)
    }

    /// Whether the tokens around `at` are the same with a cut there. White space without an end in sight is not cut.
    fn is_whole(&self, text: &str, at: usize) -> Result<bool> {
        let is_boundary = |at: &usize| text.is_char_boundary(*at);
        let start = (at.saturating_sub(WINDOW)..=at).find(is_boundary).unwrap_or(at);
        let end = (at..=text.len().min(at + WINDOW)).rev().find(is_boundary).unwrap_or(at);
        let (before, behind) = (&text[start..at], &text[at..end]);
        if before.trim().is_empty() || behind.trim().is_empty() {
            return Ok(false);
        }
        let encode = |text: &str| self.tokenizer.encode(text, false);
        Ok(encode(&text[start..end])? == [encode(before)?, encode(behind)?].concat())
    }
}

#[cfg(test)]
mod tests {
    use bitnet_inference::Checkpoint;
    use proptest::prelude::*;

    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::read(&Checkpoint::embedded().unwrap()).unwrap().unwrap()
    }

    /// Ids of a document, and the parts it was tokenized in.
    fn encode(encoder: &Encoder<'_>, text: &str) -> (Vec<i32>, usize) {
        let pool = ThreadPool::new(2).unwrap();
        let mut parts = 0;
        let mut count = |_| {
            parts += 1;
            Ok(())
        };
        let documents = encoder.long_text(text, &pool, &mut count).unwrap();
        (documents.ids().to_vec(), parts)
    }

    #[test]
    fn marks_are_those_of_the_tokenizer_and_the_end() {
        let tokenizer = tokenizer();
        let encoder = Encoder::new(&tokenizer, Some(2044)).unwrap();
        assert_eq!(
            (&encoder.before[..], &encoder.after[..], encoder.joins),
            (&[2043][..], &[2044][..], true)
        );
    }

    #[test]
    fn a_long_text_is_read_in_parts() {
        let tokenizer = tokenizer();
        let whole = Encoder::new(&tokenizer, None).unwrap();
        let lines = (0..200).map(|i| format!("Line {i} — “{}”,\n\n of  a text.\n", i * 7919));
        let text = lines.collect::<Vec<_>>().concat();
        let expected = encode(&whole, &text);
        assert_eq!(expected.1, 1);
        let (ids, parts) = encode(&Encoder { chunk: 500, ..whole }, &text);
        assert_eq!(ids, expected.0);
        assert!((5..=text.len().div_ceil(500)).contains(&parts), "{parts}");
    }

    proptest! {
        #[test]
        fn parts_have_the_tokens_of_the_whole(
            words in prop::collection::vec("[a-c]{0,3}|[ \t\n\r]{1,3}|['.!0-9é—🙂]{1,2}", 0..60),
            chunk in 1_usize..20,
        ) {
            let tokenizer = tokenizer();
            let whole = Encoder::new(&tokenizer, None).unwrap();
            let text = words.concat();
            let expected = encode(&whole, &text).0;
            prop_assert_eq!(encode(&Encoder { chunk, ..whole }, &text).0, expected);
        }
    }
}
