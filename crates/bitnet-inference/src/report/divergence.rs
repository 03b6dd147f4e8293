//! How two models differ in what they predict.

use serde::Serialize;

use crate::Result;
use crate::perplexity::negative_log_likelihood;

/// The predictions of a quantized model beside those of its float reference, over all tokens that were read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EndToEnd {
    /// Perplexity of the float model, `exp` of its mean negative log-likelihood.
    pub reference_perplexity: f64,
    /// Perplexity of the quantized model.
    pub quantized_perplexity: f64,
    /// Mean over the tokens of `KL(p || q) = sum p ln(p / q)`, nats, with p of the float model and q of the quantized one.
    pub kl_mean: f64,
    /// The largest of these.
    pub kl_max: f64,
    /// Share of tokens behind which both hold the same token for the most probable.
    pub top1_agreement: f64,
}

/// Sums over tokens.
#[derive(Debug, Default)]
pub(super) struct Divergence {
    tokens: usize,
    reference_nll: f64,
    quantized_nll: f64,
    kl: f64,
    kl_max: f64,
    agreeing: usize,
}

impl Divergence {
    /// Takes in the logits of both models behind a token, which the token `target` follows.
    ///
    /// Errors: [`crate::Error::NotFinite`].
    pub(super) fn add(&mut self, p: &[f32], q: &[f32], target: u32) -> Result<()> {
        self.reference_nll += negative_log_likelihood(p, target)?;
        self.quantized_nll += negative_log_likelihood(q, target)?;
        let kl = kl(p, q);
        self.kl += kl;
        self.kl_max = self.kl_max.max(kl);
        self.agreeing += usize::from(top(p) == top(q));
        self.tokens += 1;
        Ok(())
    }

    /// The measures; of no tokens, those of no difference.
    pub(super) fn end_to_end(&self) -> EndToEnd {
        let tokens = self.tokens.max(1) as f64;
        EndToEnd {
            reference_perplexity: (self.reference_nll / tokens).exp(),
            quantized_perplexity: (self.quantized_nll / tokens).exp(),
            kl_mean: self.kl / tokens,
            kl_max: self.kl_max,
            top1_agreement: self.agreeing as f64 / tokens,
        }
    }
}

/// `sum p ln(p / q)` of the softmax of logits, which are finite; never below 0, as rounding may have it.
fn kl(p: &[f32], q: &[f32]) -> f64 {
    let max = |logits: &[f32]| f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let (p_max, q_max) = (max(p), max(q));
    let (mut p_total, mut q_total, mut weighted) = (0.0, 0.0, 0.0);
    for (p, q) in p.iter().zip(q) {
        let (p, q) = (f64::from(*p) - p_max, f64::from(*q) - q_max);
        let weight = p.exp();
        p_total += weight;
        q_total += q.exp();
        weighted += weight * (p - q);
    }
    (weighted / p_total - p_total.ln() + q_total.ln()).max(0.0)
}

/// The place of the largest logit, the first of several.
fn top(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).rev().max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_by_hand() {
        // p = (3/4, 1/4) and q = (1/4, 3/4): KL = 3/4 ln 3 - 1/4 ln 3.
        let (p, q) = ([3.0_f32.ln(), 0.0], [5.0, 5.0 + 3.0_f32.ln()]);
        let mut divergence = Divergence::default();
        divergence.add(&p, &q, 0).unwrap();
        divergence.add(&p, &p, 1).unwrap();
        let found = divergence.end_to_end();
        let kl = 0.5 * 3.0_f64.ln();
        assert!((found.kl_max - kl).abs() < 1e-6 && (found.kl_mean - kl / 2.0).abs() < 1e-6, "{found:?}");
        assert_eq!(found.top1_agreement, 0.5);
        // The float model gives 3/4 and 1/4 to what comes, the other one 1/4 both times.
        assert!((found.reference_perplexity - (16.0_f64 / 3.0).sqrt()).abs() < 1e-6, "{found:?}");
        assert!((found.quantized_perplexity - 4.0).abs() < 1e-5, "{found:?}");
    }

    #[test]
    fn the_same_logits_diverge_by_nothing_and_no_number_is_an_error() {
        let logits: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.7).sin() * 30.0).collect();
        assert_eq!(kl(&logits, &logits), 0.0);
        assert_eq!(top(&[1.0, 2.0, 2.0]), Some(1));
        assert!(Divergence::default().add(&[0.0, 1.0], &[f32::NAN, 1.0], 0).is_err());
    }
}
