//! How long steps take, by their number of tokens.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Kinds of steps: of 1 token, of 2, of 3 and 4, of 5 to 8, and so on.
const KINDS: usize = 16;

/// Weight of the latest step of its kind.
const WEIGHT: f64 = 0.25;

/// What a time is worth when a step of another kind has come: what was not measured for long is thought cheaper, bit by
/// bit, and so is tried again some day.
const FADING: f64 = 1.0 - 1.0 / 1024.0;

/// Times of steps, measured as they are run. Threads may share them.
///
/// On a CPU neither the first token nor the next one has a fixed price: one token of a ReLU^2 model leaves out what many
/// cannot, and what a token adds depends on instruction set and threads. So nothing is assumed.
#[derive(Debug, Default)]
pub(crate) struct StepTimes {
    kinds: Mutex<[Option<Mean>; KINDS]>,
}

#[derive(Debug, Clone, Copy)]
struct Mean {
    tokens: f64,
    seconds: f64,
}

impl StepTimes {
    /// A step of so many tokens took so long.
    pub(crate) fn record(&self, tokens: usize, seconds: f64) {
        let mut kinds = self.kinds();
        kinds.iter_mut().flatten().for_each(|mean| mean.seconds *= FADING);
        let Some(kind) = kinds.get_mut(kind(tokens)) else { return };
        let tokens = tokens as f64;
        let mean = kind.get_or_insert(Mean { tokens, seconds });
        mean.tokens += WEIGHT * (tokens - mean.tokens);
        mean.seconds += WEIGHT * (seconds - mean.seconds);
    }

    fn kinds(&self) -> MutexGuard<'_, [Option<Mean>; KINDS]> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a step of so many tokens takes, in seconds: on the line between the kinds that were timed, or behind the last
    /// of them. `None` when all of those are larger.
    pub(crate) fn of(&self, tokens: usize) -> Option<f64> {
        let kinds = self.kinds();
        let first = kinds.iter().position(Option::is_some)?;
        if first > kind(tokens) {
            return None;
        }
        let tokens = tokens as f64;
        let mut known = kinds.iter().flatten();
        let mut from = *known.next()?;
        let mut slope = 0.0;
        for to in known {
            slope = (to.seconds - from.seconds) / (to.tokens - from.tokens);
            if to.tokens >= tokens {
                break;
            }
            from = *to;
        }
        // More tokens never take less time, whatever was measured.
        Some(from.seconds + slope.max(0.0) * (tokens - from.tokens).max(0.0))
    }
}

fn kind(tokens: usize) -> usize {
    (usize::BITS - tokens.saturating_sub(1).leading_zeros()) as usize
}
