//! Which part of the vocabulary a step needs to see: the less it is, the less of the head is read.

use super::SamplingOptions;

impl SamplingOptions {
    /// How many of the largest logits are needed.
    pub(super) fn needed_rank(&self) -> usize {
        let needs_all = self.mirostat.is_some() || self.top_n_sigma > 0.0;
        match self.top_k {
            _ if self.logprobs.is_some() => usize::MAX,
            _ if self.is_greedy() => 1,
            0 => usize::MAX,
            _ if needs_all => usize::MAX,
            top_k => top_k,
        }
    }

    /// How far below the largest logit a token can be chosen; infinite where min-p does not say.
    pub(super) fn needed_distance(&self) -> f32 {
        // What looks at shares of all that top-k left, in front of min-p, must see all of that.
        let needs_all = self.top_p < 1.0
            || self.typical_p < 1.0
            || self.top_n_sigma > 0.0
            || self.mirostat.is_some()
            || self.logprobs.is_some()
            || (self.dynatemp_range > 0.0 && !self.temperature_last);
        if needs_all || self.is_greedy() || self.min_p == 0.0 {
            return f32::INFINITY;
        }
        let temperature = if self.temperature_last { 1.0 } else { self.temperature };
        // The slack is for rounding.
        temperature * (1e-4 - 1.0001 * self.min_p.ln())
    }
}
