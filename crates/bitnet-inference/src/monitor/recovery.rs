//! What an engine does instead of giving up.

use super::tally::kinds;

/// A way out of a failure, or of too little memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recovery {
    /// The same was tried again.
    Retry,
    /// Another device took over.
    Fallback,
    /// It went on with less: a smaller batch, an emptied cache.
    Degrade,
    /// A sequence gave its memory to others, and is computed again later.
    Preempt,
    /// One request failed and its neighbours did not.
    Isolate,
}

kinds!(Recovery {
    Retry => "retry",
    Fallback => "fallback",
    Degrade => "degrade",
    Preempt => "preempt",
    Isolate => "isolate",
});
