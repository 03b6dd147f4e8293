//! How much is learnt from a teacher.

use crate::autograd::Estimator;
use crate::{Error, Result};

/// How a student learns from its teacher. The numbers are our choice: see docs/training.md for what they were measured on.
#[derive(Debug, Clone, PartialEq)]
pub struct DistillOptions {
    /// What the logits of both are divided by.
    pub temperature: f32,
    /// Of the divergence of the logits; 0 leaves it out.
    pub logit_weight: f32,
    /// Of the divergence of the relations; 0 leaves it out.
    pub relation_weight: f32,
    /// The layer of the relations in both models, from 0; `None` is the last of each.
    pub relation_layer: Option<usize>,
    /// Heads of the relations; `None` is the greatest common divisor of the heads of keys and values of both.
    pub relation_heads: Option<usize>,
    /// Part of the steps over which quantization is blended in: see [`Estimator::Ramp`].
    pub ramp: f64,
}

impl Default for DistillOptions {
    fn default() -> Self {
        Self {
            temperature: 2.0,
            logit_weight: 2.0,
            relation_weight: 0.1,
            relation_layer: None,
            relation_heads: None,
            ramp: 0.0,
        }
    }
}

impl DistillOptions {
    /// Errors: [`Error::InvalidOption`].
    pub fn check(&self) -> Result<()> {
        let invalid = |name, expected, got: String| Err(Error::InvalidOption { name, expected, got });
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return invalid("temperature", "a number above 0", self.temperature.to_string());
        }
        for (name, weight) in [("logit-weight", self.logit_weight), ("relation-weight", self.relation_weight)]
        {
            if !(weight >= 0.0 && weight.is_finite()) {
                return invalid(name, "a number of at least 0", weight.to_string());
            }
        }
        if self.relation_heads == Some(0) {
            return invalid("relation-heads", "at least 1", "0".to_owned());
        }
        if !(0.0..=1.0).contains(&self.ramp) {
            return invalid("ramp", "from 0 to 1", self.ramp.to_string());
        }
        Ok(())
    }

    /// The estimator of a step of a run, counted from 0: its lambda rises in a straight line.
    pub fn estimator(&self, step: u64, steps: u64) -> Estimator {
        let blended = (self.ramp * steps as f64).round() as u64;
        if step >= blended {
            return Estimator::Plain;
        }
        Estimator::Ramp { lambda: (step as f64 / blended as f64) as f32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantization_is_blended_in() {
        let options = DistillOptions { ramp: 0.4, ..DistillOptions::default() };
        let at = |step| options.estimator(step, 10);
        assert_eq!([at(0), at(3)], [0.0, 0.75].map(|lambda| Estimator::Ramp { lambda }));
        assert_eq!([at(4), at(9)], [Estimator::Plain; 2]);
        let none = DistillOptions { ramp: 0.0, ..DistillOptions::default() };
        assert_eq!(none.estimator(0, 10), Estimator::Plain);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let refusal = |options: DistillOptions| options.check().unwrap_err().to_string();
        let default = DistillOptions::default();
        assert!(default.check().is_ok());
        let temperature = refusal(DistillOptions { temperature: 0.0, ..default.clone() });
        assert_eq!(temperature, "temperature must be a number above 0, not 0");
        let weight = refusal(DistillOptions { logit_weight: f32::NAN, ..default.clone() });
        assert_eq!(weight, "logit-weight must be a number of at least 0, not NaN");
        assert!(
            refusal(DistillOptions { relation_weight: -1.0, ..default.clone() }).contains("relation-weight")
        );
        assert!(refusal(DistillOptions { relation_heads: Some(0), ..default.clone() }).contains("heads"));
        assert_eq!(refusal(DistillOptions { ramp: 1.5, ..default }), "ramp must be from 0 to 1, not 1.5");
    }
}
