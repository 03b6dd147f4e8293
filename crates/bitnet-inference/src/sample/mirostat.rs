//! Mirostat 2: the most surprising token that may be chosen follows the surprise of those that were.

use super::MirostatOptions;
use super::remaining::{Remaining, most_probable_first};

/// Drops tokens whose surprise `-log2(probability)` is above mu, which starts at `2 tau`; after a token is chosen among
/// the rest, `mu -= eta * (its surprise among them - tau)`.
///
/// Source: Basu et al. 2021, <https://arxiv.org/abs/2007.14966>; version 2 as in llama.cpp.
#[derive(Debug, Clone)]
pub(super) struct Mirostat {
    options: MirostatOptions,
    mu: f64,
}

impl Mirostat {
    pub(super) fn new(options: MirostatOptions) -> Self {
        Self { options, mu: 2.0 * f64::from(options.tau) }
    }

    /// Drops what is too surprising; the most probable token stays.
    pub(super) fn truncate(&self, remaining: &mut Remaining<'_>) {
        let (weight, lowest) = (remaining.weight(), (-self.mu).exp2() * remaining.total());
        let best = remaining.tokens.iter().min_by(|a, b| most_probable_first(a, b)).map(|token| token.id);
        remaining.tokens.retain(|token| Some(token.id) == best || weight(token) >= lowest);
    }

    /// Learns from the probability that the chosen token had.
    pub(super) fn learn(&mut self, probability: f64) {
        let MirostatOptions { tau, eta } = self.options;
        self.mu -= f64::from(eta) * (-probability.log2() - f64::from(tau));
    }
}
