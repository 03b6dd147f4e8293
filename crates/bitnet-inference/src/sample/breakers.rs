//! Texts that no repeated sequence goes across.

/// Looks for texts in a stream of tokens. Since bytes are compared, it does not matter how the tokenizer cuts them.
#[derive(Debug, Clone)]
pub(super) struct Breakers {
    breakers: Vec<Vec<u8>>,
    /// The last bytes, in which a breaker may have begun.
    tail: Vec<u8>,
}

impl Breakers {
    pub(super) fn new(breakers: &[String]) -> Self {
        Self { breakers: breakers.iter().map(|text| text.clone().into_bytes()).collect(), tail: Vec::new() }
    }

    /// Whether a token holds a whole breaker.
    pub(super) fn is_in(&self, token: &[u8]) -> bool {
        self.breakers.iter().any(|breaker| token.windows(breaker.len()).any(|part| part == breaker))
    }

    /// Takes the bytes of the next token; whether a breaker ends in them.
    pub(super) fn push(&mut self, token: &[u8]) -> bool {
        let old = self.tail.len();
        self.tail.extend_from_slice(token);
        let ends_in_token = |breaker: &Vec<u8>| {
            // Where a breaker must begin to end behind the old bytes.
            let first = (old + 1).saturating_sub(breaker.len());
            self.tail[first..].windows(breaker.len()).any(|part| part == breaker)
        };
        let is_break = !token.is_empty() && self.breakers.iter().any(ends_in_token);
        let kept = self.breakers.iter().map(|breaker| breaker.len() - 1).max().unwrap_or(0);
        self.tail.drain(..self.tail.len().saturating_sub(kept));
        is_break
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn breakers_are_found_however_the_text_is_cut(
            tokens in prop::collection::vec("[ab:]{0,3}", 0..12),
            breakers in prop::collection::vec("[ab:]{1,4}", 0..4),
        ) {
            let mut stream = Breakers::new(&breakers);
            let mut text = String::new();
            for token in &tokens {
                let before = text.len();
                text.push_str(token);
                let ends = |breaker: &String| {
                    let at = |from: usize| text[from..].starts_with(breaker.as_str());
                    (0..text.len()).any(|from| at(from) && from + breaker.len() > before)
                };
                prop_assert_eq!(stream.push(token.as_bytes()), breakers.iter().any(ends));
                prop_assert_eq!(stream.is_in(token.as_bytes()), breakers.iter().any(|b| token.contains(b)));
            }
        }
    }
}
