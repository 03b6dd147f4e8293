//! Which tokens a sampler looks at.

/// A token that may be next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit.
    pub logit: f32,
}

/// What is left of a vocabulary: tokens that are among the `top_k` with the largest penalised logits and at most
/// `below_best` below the largest.
#[derive(Debug, Clone, Copy)]
pub struct Cut<'a> {
    /// Number of tokens, at least 1.
    pub top_k: usize,
    /// Distance from the largest logit; infinite when only the rank counts.
    pub below_best: f32,
    /// What happens to logits before they are compared.
    pub adjustment: Adjustment<'a>,
}

impl Cut<'_> {
    /// The most probable token, and nothing else.
    pub const GREEDY: Cut<'static> =
        Cut { top_k: 1, below_best: f32::INFINITY, adjustment: Adjustment::NONE };

    /// Every token.
    pub const ALL: Cut<'static> = Cut { top_k: usize::MAX, ..Cut::GREEDY };

    /// The logit of a token after the adjustment. It never falls when the logit grows, so a bound of one is a bound of
    /// the other.
    pub fn penalise(&self, id: usize, logit: f32) -> f32 {
        self.adjustment.apply(id, logit)
    }

    /// Whether no adjusted logit is above the logit itself: a token that is too improbable before is so after.
    pub fn only_lowers(&self) -> bool {
        !self.adjustment.may_raise
    }
}

/// What a sampler does to logits before it compares them:
///
/// `logit / repetition_penalty` (times, for a negative logit) of tokens that were there, `+ offset`, and minus infinity
/// for tokens that are not allowed.
#[derive(Debug, Clone, Copy)]
pub struct Adjustment<'a> {
    /// Above 0; 1 does nothing.
    pub repetition_penalty: f32,
    /// How often each token was there; empty when that does not matter.
    pub counts: &'a [u32],
    /// What is added to each logit, minus infinity or finite; empty when that is nothing.
    pub offsets: &'a [f32],
    /// The tokens that may be chosen; `None` for all.
    pub allowed: Option<&'a TokenMask>,
    /// Whether a logit may come out larger than it went in.
    pub may_raise: bool,
}

impl Adjustment<'_> {
    /// Logits as they are.
    pub const NONE: Adjustment<'static> =
        Adjustment { repetition_penalty: 1.0, counts: &[], offsets: &[], allowed: None, may_raise: false };

    fn apply(&self, id: usize, logit: f32) -> f32 {
        if self.allowed.is_some_and(|allowed| !allowed.contains(id)) {
            return f32::NEG_INFINITY;
        }
        let logit = match self.counts.get(id) {
            None | Some(0) => logit,
            Some(_) if logit > 0.0 => logit / self.repetition_penalty,
            Some(_) => logit * self.repetition_penalty,
        };
        logit + self.offsets.get(id).copied().unwrap_or(0.0)
    }
}

/// A set of tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenMask {
    /// One bit for each token, the lowest first.
    words: Vec<u32>,
    count: usize,
}

impl TokenMask {
    /// Takes the tokens whose bits are set, of a vocabulary of `vocab_size`.
    pub fn set(&mut self, words: &[u32], vocab_size: usize) {
        self.words.clear();
        self.words.extend(words.iter().take(vocab_size.div_ceil(32)));
        if let Some(last) = self.words.get_mut(vocab_size / 32) {
            *last &= (1 << (vocab_size % 32)) - 1;
        }
        self.count = self.words.iter().map(|word| word.count_ones() as usize).sum();
    }

    /// Whether a token is in the set.
    pub fn contains(&self, id: usize) -> bool {
        self.words.get(id / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
    }

    /// Number of tokens in the set.
    pub fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_ends_with_the_vocabulary() {
        let mut mask = TokenMask::default();
        mask.set(&[0b101, u32::MAX, u32::MAX], 35);
        let ids: Vec<usize> = (0..100).filter(|&id| mask.contains(id)).collect();
        assert_eq!(ids, [0, 2, 32, 33, 34]);
        assert_eq!(mask.count(), 5);
    }

    #[test]
    fn what_is_not_allowed_is_below_everything() {
        let mut mask = TokenMask::default();
        mask.set(&[0b01], 2);
        let adjustment = Adjustment { allowed: Some(&mask), ..Adjustment::NONE };
        let cut = Cut { adjustment, ..Cut::ALL };
        assert_eq!((cut.penalise(0, -9.0), cut.penalise(1, 9.0)), (-9.0, f32::NEG_INFINITY));
    }
}
