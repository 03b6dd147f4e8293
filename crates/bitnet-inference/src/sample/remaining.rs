//! The tokens that may still be chosen, and what each weighs.

use std::cmp::Ordering;

use crate::backend::Candidate;

/// Tokens with their adjusted logits, in the order of their ids: sums over them then do not depend on how they were
/// selected.
#[derive(Debug)]
pub(super) struct Remaining<'a> {
    pub(super) tokens: &'a mut Vec<Candidate>,
    /// Divides the logits; above 0.
    pub(super) temperature: f32,
}

impl Remaining<'_> {
    /// The largest logit.
    pub(super) fn max(&self) -> f32 {
        self.tokens.iter().fold(f32::NEG_INFINITY, |max, token| max.max(token.logit))
    }

    /// What a token weighs beside the most probable one, `exp((logit - max) / temperature)`: its probability is that,
    /// divided by the sum of all.
    pub(super) fn weight(&self) -> impl Fn(&Candidate) -> f64 + Copy + use<> {
        let (max, temperature) = (self.max(), self.temperature);
        move |token| f64::from((token.logit - max) / temperature).exp()
    }

    /// The sum of the weights.
    pub(super) fn total(&self) -> f64 {
        self.tokens.iter().map(self.weight()).sum()
    }

    /// The entropy of the distribution, in nats, and the logarithm of [`Self::total`].
    pub(super) fn entropy(&self) -> (f64, f64) {
        let weight = self.weight();
        let (mut total, mut sum) = (0.0, 0.0);
        for token in &*self.tokens {
            let weight = weight(token);
            total += weight;
            // x ln x is 0 at 0.
            if weight > 0.0 {
                sum += weight * weight.ln();
            }
        }
        (total.ln() - sum / total, total.ln())
    }

    /// Keeps the first tokens of an order, up to the one for which `is_last` holds.
    ///
    /// Only as many are sorted as are looked at: of a large vocabulary, that is mostly few.
    pub(super) fn keep_first(
        &mut self,
        order: impl Fn(&Candidate, &Candidate) -> Ordering + Copy,
        mut is_last: impl FnMut(&Candidate) -> bool,
    ) {
        let (mut sorted, mut step) = (0, 64);
        let len = self.tokens.len();
        let kept = loop {
            let end = len.min(sorted + step);
            if end < len {
                self.tokens[sorted..].select_nth_unstable_by(step - 1, order);
            }
            let part = &mut self.tokens[sorted..end];
            part.sort_unstable_by(order);
            match part.iter().position(&mut is_last) {
                Some(last) => break sorted + last + 1,
                None if end == len => break len,
                None => (sorted, step) = (end, step * 4),
            }
        };
        self.tokens.truncate(kept);
        self.tokens.sort_unstable_by_key(|token| token.id);
    }

    /// The token in which `share` of all probability ends, and its probability. `share` is at least 0 and below 1.
    pub(super) fn at(&self, share: f64) -> Option<(u32, f64)> {
        let (weight, total) = (self.weight(), self.total());
        let mut left = share * total;
        let drawn = self.tokens.iter().find(|token| {
            left -= weight(token);
            left < 0.0
        });
        // Rounding may leave a little.
        drawn.or(self.tokens.last()).map(|token| (token.id, weight(token) / total))
    }
}

/// The order by probability; of equal tokens the first comes first.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "an order as sorting takes it")]
pub(super) fn most_probable_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}
