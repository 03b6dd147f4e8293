//! Perplexity of a model on a text.

use serde::Serialize;

use crate::loaded_model::LoadedModel;
use crate::{Error, Result};

/// Tokens whose logits are held at once: `64 x 128256` floats are 33 MB.
const BATCH: usize = 64;

/// How well a model predicts a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Perplexity {
    /// `exp(nll)`.
    pub perplexity: f64,
    /// Mean negative log-likelihood per token, in nats.
    pub nll: f64,
    /// The same for each window.
    pub nll_per_window: Vec<f64>,
    /// Tokens predicted per window.
    pub window: usize,
    /// Number of windows.
    pub windows: usize,
    /// Tokens predicted.
    pub tokens: usize,
}

impl LoadedModel {
    /// Perplexity of `text`: encoded whole with BOS, cut into windows of `window` inputs that do not overlap, each
    /// with an empty cache; input `i` predicts token `i + 1`. A last, shorter window is left out.
    ///
    /// `progress(done, all)` is called before each window and may stop the evaluation by returning an error.
    ///
    /// Errors: [`Error::TextTooShort`] when there is no whole window, [`Error::InvalidOption`]
    /// for a window of 0 or beyond the context.
    pub fn perplexity<E: From<Error>>(
        &self,
        text: &str,
        window: usize,
        max_windows: Option<usize>,
        mut progress: impl FnMut(usize, usize) -> Result<(), E>,
    ) -> Result<Perplexity, E> {
        let context_length = self.config().context_length;
        if window == 0 || max_windows == Some(0) {
            let name = if window == 0 { "window" } else { "max_windows" };
            return Err(Error::InvalidOption { name, expected: "at least 1", got: "0".to_owned() }.into());
        }
        if window > context_length {
            let (expected, got) = ("at most the context of the model", window.to_string());
            return Err(Error::InvalidOption { name: "window", expected, got }.into());
        }
        let ids = self.tokenizer()?.encode(text, true)?;
        self.check_ids(&ids)?;
        let windows = (ids.len().saturating_sub(1) / window).min(max_windows.unwrap_or(usize::MAX));
        if windows == 0 {
            return Err(Error::TextTooShort { tokens: ids.len(), needed: window + 1 }.into());
        }
        let mut nll_per_window = Vec::with_capacity(windows);
        for index in 0..windows {
            progress(index, windows)?;
            nll_per_window.push(self.window_nll(&ids[index * window..=(index + 1) * window])?);
        }
        let nll = nll_per_window.iter().sum::<f64>() / windows as f64;
        Ok(Perplexity {
            perplexity: nll.exp(),
            nll,
            nll_per_window,
            window,
            windows,
            tokens: windows * window,
        })
    }

    /// Mean negative log-likelihood of all tokens of a window but the first.
    fn window_nll(&self, ids: &[u32]) -> Result<f64> {
        let (inputs, targets) = (&ids[..ids.len() - 1], &ids[1..]);
        let mut sum = 0.0;
        self.visit_logits(inputs, BATCH, |position, logits| {
            sum += negative_log_likelihood(logits, targets[position])?;
            Ok::<(), Error>(())
        })?;
        Ok(sum / targets.len() as f64)
    }
}

/// Of a token, in nats.
///
/// Errors: [`Error::NotFinite`].
pub(crate) fn negative_log_likelihood(logits: &[f32], target: u32) -> Result<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    let nll = total.ln() - f64::from(logits[target as usize] - max);
    if nll.is_finite() { Ok(nll) } else { Err(Error::NotFinite { what: "a log-likelihood".to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nll_of_a_uniform_distribution_is_the_log_of_its_size() {
        assert!((negative_log_likelihood(&[5.0; 8], 3).unwrap() - 8_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn nll_of_no_number_is_an_error() {
        assert!(negative_log_likelihood(&[f32::NAN, 0.0], 1).is_err());
    }
}
