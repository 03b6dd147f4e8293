//! How a rate changes over the steps.

/// How a rate falls once it has reached its peak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fall {
    /// Not at all.
    Constant,
    /// In a straight line.
    Linear,
    /// In half a cosine.
    #[default]
    Cosine,
}

/// A rate that rises in a straight line over `warmup` steps, and then falls from `peak` to `end`, which it has at step
/// `steps`.
///
/// Step 0 has `peak / warmup`: the first step moves something.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The greatest rate.
    pub peak: f32,
    /// The rate at the end, and after.
    pub end: f32,
    /// Steps of the rise.
    pub warmup: u64,
    /// Steps of rise and fall.
    pub steps: u64,
    /// How it falls.
    pub fall: Fall,
}

impl Schedule {
    /// The rate of a step, counted from 0.
    pub fn rate(&self, step: u64) -> f32 {
        let Self { peak, end, warmup, steps, fall } = *self;
        if step < warmup {
            return peak * (step + 1) as f32 / warmup as f32;
        }
        let done = (step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
        let left = match fall {
            Fall::Constant => return peak,
            Fall::Linear => 1.0 - done.min(1.0),
            Fall::Cosine => 0.5 + 0.5 * libm::cos(std::f64::consts::PI * done.min(1.0)),
        };
        (f64::from(end) + f64::from(peak - end) * left) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall() {
        let schedule = |fall| Schedule { peak: 8.0, end: 2.0, warmup: 4, steps: 12, fall };
        let rates = |fall| [0, 3, 4, 8, 12, 99].map(|step| schedule(fall).rate(step));
        assert_eq!(rates(Fall::Linear), [2.0, 8.0, 8.0, 5.0, 2.0, 2.0]);
        assert_eq!(rates(Fall::Cosine), [2.0, 8.0, 8.0, 5.0, 2.0, 2.0]);
        assert_eq!(rates(Fall::Constant), [2.0, 8.0, 8.0, 8.0, 8.0, 8.0]);
        assert!(schedule(Fall::Cosine).rate(6) > schedule(Fall::Linear).rate(6));
        assert_eq!(Schedule { warmup: 0, ..schedule(Fall::Linear) }.rate(0), 8.0);
    }
}
