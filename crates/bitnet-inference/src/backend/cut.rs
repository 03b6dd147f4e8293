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
    /// Divides positive logits of seen tokens and multiplies negative ones; 1 does nothing.
    pub repetition_penalty: f32,
    /// One flag per token of the vocabulary; empty when nothing was seen.
    pub seen: &'a [bool],
}

impl Cut<'_> {
    /// The most probable token, and nothing else.
    pub const GREEDY: Cut<'static> =
        Cut { top_k: 1, below_best: f32::INFINITY, repetition_penalty: 1.0, seen: &[] };

    /// The logit of a token after the penalty. It grows with the logit, so a bound of one is a bound of the other.
    pub fn penalise(&self, id: usize, logit: f32) -> f32 {
        match self.seen.get(id) {
            Some(true) if logit > 0.0 => logit / self.repetition_penalty,
            Some(true) => logit * self.repetition_penalty,
            _ => logit,
        }
    }
}
