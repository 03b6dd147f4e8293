//! Spans for `tracing`, around what an engine does. Without a subscriber each costs a load and a branch.
//!
//! A span lasts until its guard is dropped:
//!
//! ```
//! # let (sequences, prefill_tokens, decode_tokens) = (4, 0, 4);
//! let _step = bitnet_inference::monitor::span::step(sequences, prefill_tokens, decode_tokens);
//! ```

use tracing::span::EnteredSpan;
use tracing::{debug_span, info_span};

/// The loading of a model.
pub fn load(model: &str) -> EnteredSpan {
    info_span!(target: "bitnet_inference", "load", model).entered()
}

/// One step of an engine.
pub fn step(sequences: usize, prefill_tokens: usize, decode_tokens: usize) -> EnteredSpan {
    debug_span!(target: "bitnet_inference", "step", sequences, prefill_tokens, decode_tokens).entered()
}
