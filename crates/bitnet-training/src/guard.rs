//! Notices when training goes wrong.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// What counts as wrong, and what is done then.
///
/// The loss of a step is *high* when `loss > median + spread * max(deviation, floor)`: median of the last `window` losses
/// that were not high, `deviation` 1.4826 times the median of their distances from it (the standard deviation, were they
/// normal), `floor` 1 % of the median. `patience` high losses in a row are a spike; one by itself is a hard batch. Before
/// half a window of losses none is high. A loss or gradient norm that is not finite is wrong at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuardOptions {
    /// Losses that the next is compared with.
    pub window: usize,
    /// How many deviations are high.
    pub spread: f32,
    /// High losses in a row that make a spike.
    pub patience: usize,
    /// Factor of the learning rate for each time that training goes back.
    pub rate_factor: f32,
    /// Times to go back before training is given up; `window` steps without trouble begin the count anew.
    pub retries: usize,
}

impl Default for GuardOptions {
    fn default() -> Self {
        Self { window: 64, spread: 8.0, patience: 3, rate_factor: 0.5, retries: 5 }
    }
}

/// What to do after a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// Go back to the last good state and multiply the learning rate by `rate_factor`.
    RollBack {
        /// Why.
        trouble: Trouble,
        /// Below 1.
        rate_factor: f32,
    },
    /// Going back has not helped as often as it may be tried.
    GiveUp {
        /// Why.
        trouble: Trouble,
    },
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Trouble {
    /// The loss is no number.
    #[error("the loss is {0}")]
    Loss(f32),
    /// The gradient is no number.
    #[error("the gradient norm is {0}")]
    Gradient(f32),
    /// The loss has been high for some steps.
    #[error("the loss is {loss:.3}, where the last ones were about {median:.3}")]
    Spike {
        /// The last one.
        loss: f32,
        /// Of the losses before.
        median: f32,
    },
}

/// Watches the losses of a run. What it says follows from the losses alone; saved and read again it goes on the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// The last losses that were not high, oldest first.
    losses: VecDeque<f32>,
    /// High losses since.
    high: usize,
    /// Times that training went back since the last quiet stretch.
    retries: usize,
    /// Steps without trouble since it last went back.
    quiet: usize,
}

impl Guard {
    /// Takes loss and gradient norm of a step. Where it says to go back it has forgotten the losses behind it.
    pub fn watch(&mut self, loss: f32, gradient_norm: f32, options: &GuardOptions) -> Verdict {
        if !loss.is_finite() {
            return self.trouble(Trouble::Loss(loss), options);
        }
        if !gradient_norm.is_finite() {
            return self.trouble(Trouble::Gradient(gradient_norm), options);
        }
        if let Some(median) = self.surpassed(loss, options) {
            self.high += 1;
            if self.high >= options.patience {
                return self.trouble(Trouble::Spike { loss, median }, options);
            }
            return Verdict::Continue;
        }
        self.high = 0;
        self.quiet += 1;
        if self.quiet >= options.window {
            self.retries = 0;
        }
        self.losses.push_back(loss);
        if self.losses.len() > options.window {
            self.losses.pop_front();
        }
        Verdict::Continue
    }

    /// Whether the last loss was not high: a state that may be kept.
    pub fn is_calm(&self) -> bool {
        self.high == 0
    }

    fn trouble(&mut self, trouble: Trouble, options: &GuardOptions) -> Verdict {
        let retries = self.retries + 1;
        *self = Self { retries, ..Self::default() };
        if retries > options.retries {
            return Verdict::GiveUp { trouble };
        }
        Verdict::RollBack { trouble, rate_factor: options.rate_factor }
    }

    /// The median of the last losses, when a loss is high beside them.
    fn surpassed(&self, loss: f32, options: &GuardOptions) -> Option<f32> {
        if self.losses.len() < options.window.div_ceil(2).max(1) {
            return None;
        }
        let middle = median(self.losses.iter().copied());
        let deviation = 1.4826 * median(self.losses.iter().map(|loss| (loss - middle).abs()));
        (loss > middle + options.spread * deviation.max(0.01 * middle.abs())).then_some(middle)
    }
}

/// Of an even number the upper one of the two in the middle.
fn median(values: impl Iterator<Item = f32>) -> f32 {
    let mut values: Vec<f32> = values.collect();
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPTIONS: GuardOptions =
        GuardOptions { window: 8, spread: 8.0, patience: 3, rate_factor: 0.5, retries: 2 };

    /// What is said of losses with a gradient norm of 1.
    fn watch(guard: &mut Guard, losses: &[f32]) -> Vec<Verdict> {
        losses.iter().map(|&loss| guard.watch(loss, 1.0, &OPTIONS)).collect()
    }

    fn falling(n: usize) -> Vec<f32> {
        (0..n).map(|i| 4.0 / (1.0 + 0.01 * i as f32) + 0.05 * (i as f32 * 1.7).sin()).collect()
    }

    fn is_quiet(verdicts: &[Verdict]) -> bool {
        verdicts.iter().all(|verdict| *verdict == Verdict::Continue)
    }

    #[test]
    fn a_loss_that_falls_or_is_hard_once_is_no_spike() {
        let mut losses = falling(200);
        losses[100] = 30.0;
        losses[150] = 30.0;
        losses[151] = 30.0;
        assert!(is_quiet(&watch(&mut Guard::default(), &losses)));
    }

    #[test]
    fn some_high_losses_in_a_row_are_a_spike() {
        let mut guard = Guard::default();
        assert!(is_quiet(&watch(&mut guard, &falling(50))));
        assert!(is_quiet(&watch(&mut guard, &[7.0, 7.5])));
        let median = median(falling(50)[42..].iter().copied());
        let spike = Verdict::RollBack { trouble: Trouble::Spike { loss: 8.0, median }, rate_factor: 0.5 };
        assert_eq!(watch(&mut guard, &[8.0]), [spike]);
        // What was before is not compared with.
        assert!(is_quiet(&watch(&mut guard, &[9.0, 9.0, 9.0])));
    }

    #[test]
    fn just_above_the_bound_is_high_and_just_below_is_not() {
        // Median 2, deviation 0: the floor of 1 % decides, 2 + 8 * 0.02.
        for (loss, is_high) in [(2.159, false), (2.161, true)] {
            let mut guard = Guard::default();
            watch(&mut guard, &[2.0; 8]);
            assert_eq!(!is_quiet(&watch(&mut guard, &[loss; 3])), is_high, "{loss}");
        }
        // Distances of 0.1 from 2: 2 + 8 * 0.14826.
        for (loss, is_high) in [(3.185, false), (3.187, true)] {
            let mut guard = Guard::default();
            watch(&mut guard, &[1.9, 2.1, 1.9, 2.1, 2.0, 1.9, 2.1, 2.0]);
            assert_eq!(!is_quiet(&watch(&mut guard, &[loss; 3])), is_high, "{loss}");
        }
    }

    #[test]
    fn what_is_no_number_is_wrong_at_once() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let loss = Guard::default().watch(bad, 1.0, &OPTIONS);
            assert!(matches!(loss, Verdict::RollBack { trouble: Trouble::Loss(_), .. }), "{loss:?}");
            let gradient = Guard::default().watch(1.0, bad, &OPTIONS);
            assert!(
                matches!(gradient, Verdict::RollBack { trouble: Trouble::Gradient(_), .. }),
                "{gradient:?}"
            );
        }
    }

    #[test]
    fn it_gives_up_unless_there_is_quiet_between() {
        let mut guard = Guard::default();
        let is_roll_back = |verdict: &Verdict| matches!(verdict, Verdict::RollBack { .. });
        assert!(watch(&mut guard, &[f32::NAN, f32::NAN]).iter().all(is_roll_back));
        assert!(matches!(watch(&mut guard, &[f32::NAN])[..], [Verdict::GiveUp { .. }]));
        let mut guard = Guard::default();
        for _ in 0..9 {
            assert!(is_roll_back(&watch(&mut guard, &[f32::NAN])[0]));
            assert!(is_quiet(&watch(&mut guard, &[2.0; 8])));
        }
    }

    #[test]
    fn messages_have_the_figures() {
        assert_eq!(Trouble::Loss(f32::NAN).to_string(), "the loss is NaN");
        let spike = Trouble::Spike { loss: 7.5, median: 3.25 };
        assert_eq!(spike.to_string(), "the loss is 7.500, where the last ones were about 3.250");
    }

    proptest! {
        #[test]
        fn saved_and_read_it_goes_on_the_same(losses in prop::collection::vec(0.5_f32..9.0, 1..80), cut in 0_usize..80) {
            let (before, behind) = losses.split_at(cut.min(losses.len()));
            let mut guard = Guard::default();
            watch(&mut guard, before);
            let json = serde_json::to_string(&guard).unwrap();
            let mut saved: Guard = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&saved, &guard);
            prop_assert_eq!(watch(&mut saved, behind), watch(&mut guard, behind));
        }
    }
}
