//! Token ids to text as they come, never splitting a character.

use crate::{Result, Tokenizer};

/// Tokens of the prompt that precede the first generated one when it is decoded: `SentencePiece` tokenizers drop the
/// space of a text's first token.
const CONTEXT: usize = 4;

/// Turns a stream of ids into pieces of text whose concatenation is the text of all ids.
///
/// A token may end in the middle of a character. Its text is held back until the character is whole, or until
/// [`Self::finish`].
#[derive(Debug, Default)]
pub(crate) struct Detokenizer {
    /// Ids from the start of the last piece that was given out.
    ids: Vec<u32>,
    /// How many of `ids` have been given out as text.
    given: usize,
}

impl Detokenizer {
    /// A detokenizer for the text behind `prompt`.
    pub(crate) fn after(tokenizer: &Tokenizer, prompt: &[u32]) -> Result<Self> {
        let context = &prompt[prompt.len().saturating_sub(CONTEXT)..];
        // A context that itself ends inside a character cannot be told from the text behind it.
        let is_whole = !ends_inside_character(&tokenizer.decode(context, true)?);
        let ids = if is_whole { context.to_vec() } else { Vec::new() };
        Ok(Self { given: ids.len(), ids })
    }

    /// Takes the next id and returns the text that is now certain; empty when a character is incomplete.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.pending(tokenizer)?;
        if text.is_empty() || ends_inside_character(&text) {
            return Ok(String::new());
        }
        self.ids.drain(..self.given);
        self.given = self.ids.len();
        Ok(text)
    }

    /// What was held back.
    pub(crate) fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let text = self.pending(tokenizer)?;
        self.given = self.ids.len();
        Ok(text)
    }

    fn pending(&self, tokenizer: &Tokenizer) -> Result<String> {
        let before = tokenizer.decode(&self.ids[..self.given], true)?;
        let mut all = tokenizer.decode(&self.ids, true)?;
        Ok(if all.is_char_boundary(before.len()) { all.split_off(before.len()) } else { String::new() })
    }
}

/// A decoder writes U+FFFD for bytes that form no character yet.
fn ends_inside_character(text: &str) -> bool {
    text.ends_with(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checkpoint;

    fn tokenizer() -> Tokenizer {
        Tokenizer::read(&Checkpoint::embedded().unwrap()).unwrap().unwrap()
    }

    fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
        let mut detokenizer = Detokenizer::default();
        let mut pieces: Vec<String> =
            ids.iter().map(|&id| detokenizer.push(tokenizer, id).unwrap()).collect();
        pieces.push(detokenizer.finish(tokenizer).unwrap());
        pieces
    }

    #[test]
    fn pieces_concatenate_to_the_text_and_hold_whole_characters() {
        let tokenizer = tokenizer();
        let text = "naïve café — 日本語 🙂 end";
        let ids = tokenizer.encode(text, false).unwrap();
        let pieces = pieces(&tokenizer, &ids);
        assert_eq!(pieces.concat(), text);
        assert!(pieces.iter().any(String::is_empty), "this text splits characters over tokens");
        assert!(pieces.iter().all(|piece| !piece.contains(char::REPLACEMENT_CHARACTER)));
    }

    #[test]
    fn an_incomplete_character_comes_out_at_the_end() {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode("ok 🙂", false).unwrap();
        let cut = &ids[..ids.len() - 1];
        let pieces = pieces(&tokenizer, cut);
        assert_eq!(pieces.concat(), tokenizer.decode(cut, true).unwrap());
        assert!(pieces.last().unwrap().contains(char::REPLACEMENT_CHARACTER));
    }

    #[test]
    fn a_broken_character_does_not_hold_back_what_follows() {
        let tokenizer = tokenizer();
        let mut ids = tokenizer.encode("🙂", false).unwrap();
        ids.pop();
        ids.extend(tokenizer.encode(" go on", false).unwrap());
        assert_eq!(pieces(&tokenizer, &ids).concat(), tokenizer.decode(&ids, true).unwrap());
    }
}
