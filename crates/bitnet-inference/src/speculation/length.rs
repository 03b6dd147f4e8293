//! How many guesses are worth their time.

use super::Place;

/// What guesses must promise beyond a step without them: times and rates are estimates.
const GAIN: f64 = 1.05;

/// The most guesses that are thought of.
const MOST: usize = 31;

/// How many guesses a step is to have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Length<'a> {
    pub(super) place: Place<'a>,
    /// Whether or not they are worth their time.
    pub(super) fixed: Option<usize>,
}

impl Length<'_> {
    /// With room for no more than `most`.
    pub(super) fn at_most(mut self, most: usize) -> Self {
        self.place.most = self.place.most.min(most);
        self
    }

    /// The number of guesses with which a step gives most tokens per second:
    ///
    /// `max over g of (b + 1 + r_0 + r_0 r_1 + ... + r_0 ... r_(g-1)) / (t(b + 1 + g) + g d)`,
    ///
    /// where `b` tokens of others are in the step, `r_i = rate(i)` is how often guess `i` is right when those in front of it
    /// are, `t(n)` is the time of a step of `n` tokens as measured so far, and `d = seconds` that of a guess. None before
    /// a step without guesses was timed.
    pub(super) fn best(self, rate: impl Fn(usize) -> f64, seconds: f64) -> usize {
        let Place { most, beside, times } = self.place;
        if let Some(fixed) = self.fixed {
            return fixed.min(most);
        }
        let plain = beside + 1;
        let Some(time) = times.of(plain) else { return 0 };
        let (mut best, mut fastest) = (0, GAIN * plain as f64 / time);
        let (mut tokens, mut is_right) = (plain as f64, 1.0);
        for guesses in 1..=most.min(MOST) {
            is_right *= rate(guesses - 1);
            tokens += is_right;
            let Some(time) = times.of(plain + guesses) else { break };
            let speed = tokens / (time + guesses as f64 * seconds);
            if speed > fastest {
                (best, fastest) = (guesses, speed);
            }
        }
        best
    }
}
