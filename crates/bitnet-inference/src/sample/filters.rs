//! What drops tokens before one is chosen. Each keeps at least one, and leaves the others as they were.

use super::remaining::{Remaining, most_probable_first};

impl Remaining<'_> {
    /// Keeps logits of at least `max - n * sigma`, with sigma the standard deviation of all.
    ///
    /// Source: Tang et al. 2024, <https://arxiv.org/abs/2411.07641>.
    pub(super) fn top_n_sigma(&mut self, n: f32) {
        let count = self.tokens.len() as f64;
        let mean = self.tokens.iter().map(|token| f64::from(token.logit)).sum::<f64>() / count;
        let squares = self.tokens.iter().map(|token| (f64::from(token.logit) - mean).powi(2));
        let sigma = (squares.sum::<f64>() / count).sqrt();
        let lowest = f64::from(self.max()) - f64::from(n) * sigma;
        self.tokens.retain(|token| f64::from(token.logit) >= lowest);
    }

    /// Keeps the `k` largest logits.
    ///
    /// Source: Fan et al. 2018, <https://arxiv.org/abs/1805.04833>.
    pub(super) fn top_k(&mut self, k: usize) {
        if k < self.tokens.len() {
            self.tokens.select_nth_unstable_by(k - 1, most_probable_first);
            self.tokens.truncate(k);
            self.tokens.sort_unstable_by_key(|token| token.id);
        }
    }

    /// Keeps the tokens with the smallest `|-ln(probability) - entropy|`, the fewest that sum to at least `p`.
    ///
    /// Source: locally typical sampling, Meister et al. 2022, <https://arxiv.org/abs/2202.00666>.
    pub(super) fn typical(&mut self, p: f32) {
        let (entropy, ln_total) = self.entropy();
        let (max, temperature) = (self.max(), self.temperature);
        // -ln(probability) is ln_total - (logit - max) / temperature.
        let expected = ln_total - entropy;
        let distance = move |logit: f32| (expected - f64::from((logit - max) / temperature)).abs();
        let (weight, enough) = (self.weight(), f64::from(p) * self.total());
        let mut sum = 0.0;
        self.keep_first(
            move |a, b| distance(a.logit).total_cmp(&distance(b.logit)).then(most_probable_first(a, b)),
            |token| {
                sum += weight(token);
                sum >= enough
            },
        );
    }

    /// Keeps the most probable tokens, the fewest that sum to at least `p`.
    ///
    /// Source: nucleus sampling, Holtzman et al. 2019, <https://arxiv.org/abs/1904.09751>.
    pub(super) fn top_p(&mut self, p: f32) {
        let (weight, enough) = (self.weight(), f64::from(p) * self.total());
        let mut sum = 0.0;
        self.keep_first(most_probable_first, |token| {
            sum += weight(token);
            sum >= enough
        });
    }

    /// Keeps tokens of at least `p` times the largest probability.
    ///
    /// Source: Nguyen et al. 2024, <https://arxiv.org/abs/2407.01082>.
    pub(super) fn min_p(&mut self, p: f32) {
        let weight = self.weight();
        self.tokens.retain(|token| weight(token) >= f64::from(p));
    }

    /// Of the tokens with a probability of at least `threshold`, keeps the least probable one.
    ///
    /// Source: XTC, <https://github.com/oobabooga/text-generation-webui/pull/6335>.
    pub(super) fn exclude_top_choices(&mut self, threshold: f32) {
        let (weight, lowest) = (self.weight(), f64::from(threshold) * self.total());
        let is_top = move |weight: f64| weight >= lowest;
        let top = self.tokens.iter().filter(|token| is_top(weight(token)));
        let Some(least) = top.max_by(|a, b| most_probable_first(a, b)).map(|token| token.id) else { return };
        self.tokens.retain(|token| token.id == least || !is_top(weight(token)));
    }
}
