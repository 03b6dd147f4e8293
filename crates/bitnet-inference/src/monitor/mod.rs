//! What an engine does, counted as it runs.
//!
//! Every event is a few additions to atomic counters: no lock, no allocation, and less than a microsecond for a step. A
//! [`Snapshot`] reads them one after another while they go on, so that figures of one snapshot may be an event apart.
//!
//! ```
//! use std::time::Duration;
//! use bitnet_inference::monitor::{PerformanceMonitor, StepReport};
//!
//! let monitor = PerformanceMonitor::new("bitnet-tiny", 4);
//! let duration = Duration::from_millis(3);
//! monitor.step(&StepReport { prefill_tokens: 12, sequences: 1, capacity: 8, duration, ..StepReport::default() });
//! assert_eq!(monitor.snapshot().prefill.tokens_per_s, Some(4000.0));
//! ```

mod error_kind;
mod histogram;
mod layer_times;
mod phase;
pub(crate) mod prometheus;
mod recovery;
mod snapshot;
pub mod span;
mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub use error_kind::ErrorKind;
pub use histogram::Distribution;
pub use layer_times::{Half, LayerClock, LayerSeconds, LayerTimes};
pub use phase::{PhaseFigures, StepReport};
pub use prometheus::prometheus;
pub use recovery::Recovery;
pub use snapshot::{Batch, KvPages, PrefixCache, Requests, Snapshot};
pub use tally::{Counts, Kind};

use self::histogram::Histogram;
use self::phase::{Phase, PhaseCounters};
use self::tally::Tally;
use crate::FinishReason;
use crate::speculation::Guesses;

/// Counts what an engine does with one model. Threads may share it.
#[derive(Debug)]
pub struct PerformanceMonitor {
    model: String,
    started: Instant,
    submitted: AtomicU64,
    rejected: AtomicU64,
    finished: Tally<FinishReason>,
    failed: Tally<ErrorKind>,
    recovered: Tally<Recovery>,
    first_token: Histogram,
    next_token: Histogram,
    prefill: PhaseCounters,
    decode: PhaseCounters,
    mixed: PhaseCounters,
    batch: Histogram,
    /// Sum of the capacities of all steps.
    places: AtomicU64,
    capacity: AtomicU64,
    queue_depth: AtomicU64,
    kv_pages_used: AtomicU64,
    kv_pages_total: AtomicU64,
    prefix_lookups: AtomicU64,
    prefix_hits: AtomicU64,
    prefix_tokens: AtomicU64,
    proposed: AtomicU64,
    accepted: AtomicU64,
    layers: Arc<LayerTimes>,
}

impl PerformanceMonitor {
    /// A monitor of a model of `layers` layers, by the name that labels its figures.
    pub fn new(model: impl Into<String>, layers: usize) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            model: model.into(),
            started: Instant::now(),
            submitted: zero(),
            rejected: zero(),
            finished: Tally::new(),
            failed: Tally::new(),
            recovered: Tally::new(),
            first_token: Histogram::new(),
            next_token: Histogram::new(),
            prefill: PhaseCounters::new(),
            decode: PhaseCounters::new(),
            mixed: PhaseCounters::new(),
            batch: Histogram::new(),
            places: zero(),
            capacity: zero(),
            queue_depth: zero(),
            kv_pages_used: zero(),
            kv_pages_total: zero(),
            prefix_lookups: zero(),
            prefix_hits: zero(),
            prefix_tokens: zero(),
            proposed: zero(),
            accepted: zero(),
            layers: Arc::new(LayerTimes::new(layers)),
        }
    }

    /// A batch was executed.
    pub fn step(&self, step: &StepReport) {
        self.capacity.store(step.capacity as u64, Relaxed);
        self.queue_depth(step.queue_depth);
        self.kv_pages_used.store(step.kv_pages_used as u64, Relaxed);
        self.kv_pages_total.store(step.kv_pages_total as u64, Relaxed);
        let phase = match step.phase() {
            None => return,
            Some(Phase::Prefill) => &self.prefill,
            Some(Phase::Decode) => &self.decode,
            Some(Phase::Mixed) => &self.mixed,
        };
        phase.add(step);
        self.batch.record(step.sequences as u64);
        self.places.fetch_add(step.capacity as u64, Relaxed);
    }

    /// This many requests wait, as of now: between steps, where the queue moves without them.
    pub fn queue_depth(&self, requests: usize) {
        self.queue_depth.store(requests as u64, Relaxed);
    }

    /// A request was taken into the queue.
    pub fn submitted(&self) {
        self.submitted.fetch_add(1, Relaxed);
    }

    /// A request was turned away, as the queue was full. It does not count as submitted.
    pub fn rejected(&self) {
        self.rejected.fetch_add(1, Relaxed);
    }

    /// A request has its first token, this long after it was submitted.
    pub fn first_token(&self, since_submission: Duration) {
        self.first_token.record_duration(since_submission);
    }

    /// A request has another token, this long after the one before.
    pub fn next_token(&self, since_the_last: Duration) {
        self.next_token.record_duration(since_the_last);
    }

    /// A submitted request ended well, or was cancelled.
    pub fn finished(&self, reason: FinishReason) {
        self.finished.add(reason);
    }

    /// A submitted request ended with an error.
    pub fn failed(&self, kind: ErrorKind) {
        self.failed.add(kind);
    }

    /// The engine found a way on.
    pub fn recovered(&self, recovery: Recovery) {
        self.recovered.add(recovery);
    }

    /// The prefix cache was asked for a prompt and held its first `reused_tokens`, which are not computed again.
    pub fn prefix_looked_up(&self, reused_tokens: usize) {
        self.prefix_lookups.fetch_add(1, Relaxed);
        if reused_tokens > 0 {
            self.prefix_hits.fetch_add(1, Relaxed);
            self.prefix_tokens.fetch_add(reused_tokens as u64, Relaxed);
        }
    }

    /// So many guesses of next tokens were computed.
    pub fn guessed(&self, guesses: usize) {
        self.proposed.fetch_add(guesses as u64, Relaxed);
    }

    /// One of them is what came next.
    pub fn guessed_right(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    /// Times of the layers, for the backend to add to. Off until [`LayerTimes::set_on`].
    pub fn layer_times(&self) -> &Arc<LayerTimes> {
        &self.layers
    }

    /// All figures as of now.
    pub fn snapshot(&self) -> Snapshot {
        // Ends are read before beginnings: no request has ended that was not submitted.
        let (finished, errors) = (self.finished.read(), self.failed.read());
        let accepted = self.accepted.load(Relaxed);
        let batch = self.batch.counts();
        let places = self.places.load(Relaxed);
        Snapshot {
            model: self.model.clone(),
            uptime_s: self.started.elapsed().as_secs_f64(),
            requests: Requests::new(
                self.submitted.load(Relaxed),
                self.rejected.load(Relaxed),
                finished,
                &errors,
            ),
            errors,
            recoveries: self.recovered.read(),
            time_to_first_token_s: self.first_token.seconds(),
            inter_token_latency_s: self.next_token.seconds(),
            prefill: self.prefill.read(),
            decode: self.decode.read(),
            mixed: self.mixed.read(),
            batch: Batch {
                capacity: self.capacity.load(Relaxed),
                occupancy: (places > 0).then(|| batch.sum() / places as f64),
                sequences: batch,
            },
            queue_depth: self.queue_depth.load(Relaxed),
            kv_pages: KvPages {
                used: self.kv_pages_used.load(Relaxed),
                total: self.kv_pages_total.load(Relaxed),
            },
            prefix_cache: PrefixCache {
                lookups: self.prefix_lookups.load(Relaxed),
                hits: self.prefix_hits.load(Relaxed),
                reused_tokens: self.prefix_tokens.load(Relaxed),
            },
            speculation: Guesses { proposed: self.proposed.load(Relaxed), accepted },
            layers: self.layers.read(),
        }
    }
}

#[cfg(test)]
mod tests;
