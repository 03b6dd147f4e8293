//! The figures of a step.

use serde::{Deserialize, Deserializer, Serialize};

use super::Record;

/// What was measured at a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Steps that were done, this one included.
    pub step: u64,
    /// Mean cross-entropy of its batch, nats per token; JSON has `null` for what is no number.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Euclidean norm of all gradients, before clipping.
    #[serde(deserialize_with = "number")]
    pub grad_norm: f64,
    /// What else its loss is made of.
    #[serde(flatten)]
    pub parts: LossParts,
    /// Tokens of its batch over the seconds it took.
    pub tokens_per_s: f64,
    /// Loss on the data of evaluation behind this step, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
}

impl Record for Metrics {
    const NAME: &'static str = "metrics";

    fn step(&self) -> u64 {
        self.step
    }
}

/// Kullback-Leibler divergences from a teacher, nats, before they are weighted; those that the loss has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LossParts {
    /// Of the probabilities of the next token, at the temperature, mean per token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_kl: Option<f64>,
    /// Of the relations of queries, of keys and of values, mean per token and head, added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation_kl: Option<f64>,
}

impl LossParts {
    /// Adds a share of the divergences of a part of a batch.
    pub(crate) fn add(&mut self, share: f64, part: &Self) {
        for (sum, part) in [(&mut self.logit_kl, part.logit_kl), (&mut self.relation_kl, part.relation_kl)] {
            if let Some(part) = part {
                *sum = Some(sum.unwrap_or(0.0) + share * part);
            }
        }
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
