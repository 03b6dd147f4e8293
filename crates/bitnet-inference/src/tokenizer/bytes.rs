//! The bytes that each token stands for: a token may be a part of a character.

use serde_json::Value;

use super::Tokenizer;
use crate::Result;

/// The bytes of every token of a vocabulary. Special tokens and rows without a token have none.
#[derive(Debug)]
pub(crate) struct TokenBytes {
    bytes: Vec<u8>,
    /// Where the bytes of each token end.
    ends: Vec<usize>,
}

impl TokenBytes {
    /// The bytes of a token.
    pub(crate) fn get(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start..self.ends[id]]
    }
}

impl<B: AsRef<[u8]>> FromIterator<B> for TokenBytes {
    fn from_iter<I: IntoIterator<Item = B>>(tokens: I) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for token in tokens {
            bytes.extend_from_slice(token.as_ref());
            ends.push(bytes.len());
        }
        Self { bytes, ends }
    }
}

impl Tokenizer {
    /// The bytes of `vocab_size` tokens.
    ///
    /// Errors: [`crate::Error::Tokenizer`] for one that is neither byte-level nor of SentencePiece's kind.
    pub(crate) fn token_bytes(&self, vocab_size: usize) -> Result<TokenBytes> {
        let refuse = || self.refuse("it is not known which bytes its tokens stand for".to_owned());
        let decoder = serde_json::to_value(self.inner.get_decoder()).map_err(|_| refuse())?;
        let spelling = Spelling::of(&decoder).ok_or_else(refuse)?;
        let added = self.inner.get_added_tokens_decoder();
        let bytes = |id: u32| match added.get(&id) {
            Some(token) if token.special => Vec::new(),
            Some(token) => token.content.clone().into_bytes(),
            None => self.inner.id_to_token(id).map_or_else(Vec::new, |token| spelling.bytes(&token)),
        };
        Ok((0..vocab_size as u32).map(bytes).collect())
    }
}

/// How a vocabulary writes bytes as text.
enum Spelling {
    /// A character for each byte, as GPT-2 does.
    ByteLevel,
    /// Text with a character for the space; with `byte_fallback`, `<0x0A>` is a byte.
    Pieces { space: String, byte_fallback: bool },
}

impl Spelling {
    /// What a decoder undoes.
    fn of(decoder: &Value) -> Option<Self> {
        let parts = decoder["decoders"].as_array().map_or(std::slice::from_ref(decoder), Vec::as_slice);
        let part = |name: &str| parts.iter().find(|part| part["type"] == name);
        if part("ByteLevel").is_some() {
            return Some(Self::ByteLevel);
        }
        let replaced =
            part("Replace").filter(|part| part["content"] == " ").map(|part| &part["pattern"]["String"]);
        let space = replaced.or_else(|| part("Metaspace").map(|part| &part["replacement"]))?;
        let byte_fallback = part("ByteFallback").is_some();
        Some(Self::Pieces { space: space.as_str()?.to_owned(), byte_fallback })
    }

    fn bytes(&self, token: &str) -> Vec<u8> {
        match self {
            // A text with another character is not spelled so.
            Self::ByteLevel => {
                token.chars().map(byte_level).collect::<Option<_>>().unwrap_or_else(|| token.into())
            }
            Self::Pieces { space, byte_fallback } => {
                let byte = byte_fallback.then(|| fallback_byte(token)).flatten();
                byte.map_or_else(|| token.replace(space, " ").into_bytes(), |byte| vec![byte])
            }
        }
    }
}

/// The byte that `<0x0A>` is.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)
}

/// The byte that a character of GPT-2's alphabet stands for: a visible Latin-1 character is itself, the other bytes
/// have the characters from U+0100 in their order.
fn byte_level(c: char) -> Option<u8> {
    let is_visible = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(c).checked_sub(0x100) {
        None => u8::try_from(c).ok().filter(is_visible),
        // 33 bytes below '!', 34 from DEL to U+00A0, and U+00AD.
        Some(n @ 0..33) => Some(n as u8),
        Some(n @ 33..67) => Some((n - 33) as u8 + 0x7F),
        Some(67) => Some(0xAD),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checkpoint;

    const TEXT: &str = "naïve café — 日本語 🙂 \u{7f}\u{a0}\u{ad}\t\r\n  end";

    #[test]
    fn the_bytes_of_a_text_are_those_of_its_tokens() {
        let tokenizer = Tokenizer::read(&Checkpoint::embedded().unwrap()).unwrap().unwrap();
        let bytes = tokenizer.token_bytes(tokenizer.vocab_size()).unwrap();
        let ids = tokenizer.encode(TEXT, false).unwrap();
        assert_eq!(ids.iter().flat_map(|&id| bytes.get(id)).copied().collect::<Vec<u8>>(), TEXT.as_bytes());
    }

    #[test]
    fn every_byte_has_one_character() {
        let bytes: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_level).collect();
        let mut sorted = bytes.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn special_tokens_and_rows_without_a_token_have_no_bytes() {
        let tokenizer = Tokenizer::read(&Checkpoint::embedded().unwrap()).unwrap().unwrap();
        let rows = tokenizer.vocab_size() + 3;
        let bytes = tokenizer.token_bytes(rows).unwrap();
        let added = tokenizer.inner.get_added_tokens_decoder();
        assert!(!added.is_empty());
        for id in added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).chain([rows as u32 - 1])
        {
            assert!(bytes.get(id).is_empty(), "{id}");
        }
    }
}
