//! Log-probabilities.

use serde::Serialize;

use super::remaining::{Remaining, most_probable_first};
use crate::backend::Candidate;

/// What the model itself says of a token: `ln softmax(logits)`, in nats, before any change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Logprobs {
    /// That of the token that was chosen.
    pub logprob: f32,
    /// The most probable tokens and theirs, as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

impl Logprobs {
    /// Of all tokens of the vocabulary, in the order of their ids. `tokens` is a buffer.
    pub(super) fn of(all: &[Candidate], chosen: u32, count: usize, tokens: &mut Vec<Candidate>) -> Self {
        tokens.clear();
        tokens.extend_from_slice(all);
        let mut remaining = Remaining { tokens, temperature: 1.0 };
        let (max, ln_total) = (f64::from(remaining.max()), remaining.total().ln());
        let logprob = |token: &Candidate| (f64::from(token.logit) - max - ln_total) as f32;
        let chosen = all.get(chosen as usize).map_or(f32::NEG_INFINITY, logprob);
        if count > 0 {
            remaining.top_k(count);
        }
        tokens.truncate(count);
        tokens.sort_unstable_by(most_probable_first);
        Self { logprob: chosen, top: tokens.iter().map(|token| (token.id, logprob(token))).collect() }
    }
}
