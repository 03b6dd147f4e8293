//! All figures of a monitor at one time.

use serde::Serialize;

use super::prometheus::prometheus;
use super::{Counts, Distribution, ErrorKind, LayerSeconds, PhaseFigures, Recovery};
use crate::FinishReason;
use crate::speculation::Guesses;

/// What an engine has done since its monitor was made. Names end in their unit: `_s` seconds, `_bytes`, `_per_s`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// The model, as the monitor was told.
    pub model: String,
    /// Since the monitor was made.
    pub uptime_s: f64,
    /// What became of the requests.
    pub requests: Requests,
    /// Requests that ended with an error, by what it was about.
    pub errors: Counts<ErrorKind>,
    /// How often the engine found a way on.
    pub recoveries: Counts<Recovery>,
    /// From the submission of a request to its first token.
    pub time_to_first_token_s: Distribution,
    /// From one token of a request to the next.
    pub inter_token_latency_s: Distribution,
    /// Steps that read prompts only.
    pub prefill: PhaseFigures,
    /// Steps that decode only.
    pub decode: PhaseFigures,
    /// Steps that do both.
    pub mixed: PhaseFigures,
    /// How full the steps were.
    pub batch: Batch,
    /// Requests that wait for a place.
    pub queue_depth: u64,
    /// The KV cache as of the last step.
    pub kv_pages: KvPages,
    /// Prompts that were known already.
    pub prefix_cache: PrefixCache,
    /// Tokens that were guessed; those that were wrong are among the decoded tokens of the phases.
    pub speculation: Guesses,
    /// Time of each layer; 0 while layers are not timed.
    pub layers: Vec<LayerSeconds>,
}

/// What became of the requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Requests {
    /// Taken into the queue.
    pub submitted: u64,
    /// Turned away.
    pub rejected: u64,
    /// Ended without an error, by why.
    pub finished: Counts<FinishReason>,
    /// Ended with an error.
    pub failed: u64,
    /// Submitted and not ended: running or waiting.
    pub active: u64,
}

/// How full the steps were.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Batch {
    /// Sequences that a step may have.
    pub capacity: u64,
    /// Sequences of all steps by their places, 0 to 1; `None` before the first step.
    pub occupancy: Option<f64>,
    /// Sequences of a step.
    pub sequences: Distribution,
}

/// Pages of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KvPages {
    /// In use.
    pub used: u64,
    /// There are.
    pub total: u64,
}

/// What the prefix cache saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PrefixCache {
    /// Prompts it was asked for.
    pub lookups: u64,
    /// Those of which it held a beginning.
    pub hits: u64,
    /// Tokens of these beginnings, which were not computed again.
    pub reused_tokens: u64,
}

impl Requests {
    pub(super) fn new(
        submitted: u64,
        rejected: u64,
        finished: Counts<FinishReason>,
        errors: &Counts<ErrorKind>,
    ) -> Self {
        let failed = errors.total();
        // An engine that counts an end twice must not make this wrap.
        let active = submitted.saturating_sub(finished.total() + failed);
        Self { submitted, rejected, finished, failed, active }
    }
}

impl Snapshot {
    /// As one JSON object, with the names of the fields.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names are texts, and numbers are finite or null")
    }

    /// In the text format of Prometheus, version 0.0.4. For several models at once see [`prometheus`].
    pub fn to_prometheus(&self) -> String {
        prometheus(&[self])
    }
}
