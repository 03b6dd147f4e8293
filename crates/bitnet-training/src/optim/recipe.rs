//! Learning rate and weight decay of a whole training, by name.

use super::{Fall, Schedule};

/// Steps over which the rate of a long training rises.
const WARMUP: u64 = 375;

/// Learning rate and weight decay of every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Recipe {
    /// The two stages of BitNet b1.58. The rate rises over 375 steps, or a twentieth of a short training, and falls in a
    /// straight line to 8 / 15 of the peak at half of the steps; there it drops to a third of the peak, and falls to 0.
    /// Weight decay is `weight_decay` in the first half and 0 in the second.
    ///
    /// A ternary weight hardly moves before its master has moved far, which asks for a high rate; in the end the codes
    /// must come to rest, which asks for a low one, and for a decay that pulls nothing back over a threshold. Source:
    /// proportions of "The Era of 1-bit LLMs: Training Tips, Code and FAQ" (1.5e-3 to 8e-4, then 5e-4 to 0; 0.1, then 0).
    TwoStage {
        /// The greatest learning rate.
        peak: f32,
        /// Of the first half.
        weight_decay: f32,
        /// Steps of the training.
        steps: u64,
    },
    /// One schedule of the learning rate and one weight decay.
    Plain {
        /// Of the learning rate.
        schedule: Schedule,
        /// At every step.
        weight_decay: f32,
    },
}

impl Recipe {
    /// The recipe named `b1.58`, with its weight decay of 0.1.
    pub fn b1_58(peak: f32, steps: u64) -> Self {
        Self::TwoStage { peak, weight_decay: 0.1, steps }
    }

    /// The recipe named `finetune`: the rate rises over 375 steps, or a twentieth of a short training, and falls to 0 in half
    /// a cosine. Weights do not decay, so that what was learnt before is not pulled away.
    pub fn finetune(peak: f32, steps: u64) -> Self {
        let schedule = Schedule { peak, end: 0.0, warmup: warmup(steps), steps, fall: Fall::Cosine };
        Self::Plain { schedule, weight_decay: 0.0 }
    }

    /// The learning rate of a step, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f32 {
        match *self {
            Self::Plain { schedule, .. } => schedule.rate(step),
            Self::TwoStage { peak, steps, .. } => {
                let (half, fall) = (steps / 2, Fall::Linear);
                let warmup = warmup(steps);
                if step < half {
                    return Schedule { peak, end: peak * (8.0 / 15.0), warmup, steps: half, fall }.rate(step);
                }
                let second = Schedule { peak: peak / 3.0, end: 0.0, warmup: 0, steps: steps - half, fall };
                second.rate(step - half)
            }
        }
    }

    /// The weight decay of a step, counted from 0.
    pub fn weight_decay(&self, step: u64) -> f32 {
        match *self {
            Self::Plain { weight_decay, .. } => weight_decay,
            Self::TwoStage { weight_decay, steps, .. } => {
                if step < steps / 2 {
                    weight_decay
                } else {
                    0.0
                }
            }
        }
    }
}

/// Steps over which the rate rises.
fn warmup(steps: u64) -> u64 {
    WARMUP.min(steps / 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_half_has_a_low_rate_and_no_decay() {
        let recipe = Recipe::b1_58(1.5e-3, 10_000);
        let rate = |step| f64::from(recipe.learning_rate(step));
        let is = |step, expected: f64| assert!((rate(step) / expected - 1.0).abs() < 1e-3, "{step}");
        is(0, 1.5e-3 / 375.0);
        is(375, 1.5e-3);
        is(4_999, 8e-4);
        is(5_000, 5e-4);
        is(7_500, 2.5e-4);
        assert_eq!(rate(10_000), 0.0);
        assert_eq!([0, 4_999, 5_000].map(|step| recipe.weight_decay(step)), [0.1, 0.1, 0.0]);
        assert_eq!(Recipe::b1_58(1.0, 100).learning_rate(4), 1.0);
        assert!(Recipe::b1_58(1.0, 1).learning_rate(0) > 0.0);
    }

    #[test]
    fn fine_tuning_rises_and_falls_without_decay() {
        let recipe = Recipe::finetune(2.0, 100);
        assert_eq!([4, 5, 100].map(|step| recipe.learning_rate(step)), [2.0, 2.0, 0.0]);
        assert!(recipe.learning_rate(0) < recipe.learning_rate(1));
        assert_eq!(recipe.weight_decay(50), 0.0);
        assert!(Recipe::finetune(1.0, 1).learning_rate(0) > 0.0);
    }
}
