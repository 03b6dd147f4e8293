//! Steps of an engine, apart by what they do.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

use super::histogram::{Distribution, Histogram};
use crate::backend::Traffic;

/// One executed batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepReport {
    /// Tokens of prompts that were read.
    pub prefill_tokens: usize,
    /// Tokens behind prompts: one of each sequence that decodes, and guesses behind it.
    pub decode_tokens: usize,
    /// Sequences in the batch.
    pub sequences: usize,
    /// Sequences that a batch may have.
    pub capacity: usize,
    /// From the choice of the batch to its last token.
    pub duration: Duration,
    /// What the backend read for it.
    pub traffic: Traffic,
    /// Requests that wait for a place.
    pub queue_depth: usize,
    /// Pages of the KV cache in use.
    pub kv_pages_used: usize,
    /// Pages there are.
    pub kv_pages_total: usize,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Prefill,
    Decode,
    Mixed,
}

impl StepReport {
    /// `None` for a batch without a token.
    pub(super) fn phase(&self) -> Option<Phase> {
        match (self.prefill_tokens, self.decode_tokens) {
            (0, 0) => None,
            (_, 0) => Some(Phase::Prefill),
            (0, _) => Some(Phase::Decode),
            _ => Some(Phase::Mixed),
        }
    }
}

/// Counters of the steps of a phase.
#[derive(Debug)]
pub(super) struct PhaseCounters {
    prefill_tokens: AtomicU64,
    decode_tokens: AtomicU64,
    weight_bytes: AtomicU64,
    kv_bytes: AtomicU64,
    device_ns: AtomicU64,
    durations: Histogram,
}

impl PhaseCounters {
    pub(super) fn new() -> Self {
        Self {
            prefill_tokens: AtomicU64::new(0),
            decode_tokens: AtomicU64::new(0),
            weight_bytes: AtomicU64::new(0),
            kv_bytes: AtomicU64::new(0),
            device_ns: AtomicU64::new(0),
            durations: Histogram::new(),
        }
    }

    pub(super) fn add(&self, step: &StepReport) {
        self.prefill_tokens.fetch_add(step.prefill_tokens as u64, Relaxed);
        self.decode_tokens.fetch_add(step.decode_tokens as u64, Relaxed);
        self.weight_bytes.fetch_add(step.traffic.weight_bytes, Relaxed);
        self.kv_bytes.fetch_add(step.traffic.kv_bytes, Relaxed);
        self.device_ns.fetch_add(step.traffic.device_ns, Relaxed);
        self.durations.record_duration(step.duration);
    }

    pub(super) fn read(&self) -> PhaseFigures {
        let step_s = self.durations.seconds();
        let prefill_tokens = self.prefill_tokens.load(Relaxed);
        let decode_tokens = self.decode_tokens.load(Relaxed);
        let weight_bytes = self.weight_bytes.load(Relaxed);
        let kv_bytes = self.kv_bytes.load(Relaxed);
        let ratio = |a: u64, b: f64| (b > 0.0).then(|| a as f64 / b);
        let (tokens, bytes) = (prefill_tokens + decode_tokens, weight_bytes + kv_bytes);
        PhaseFigures {
            steps: step_s.count(),
            prefill_tokens,
            decode_tokens,
            busy_s: step_s.sum(),
            device_s: self.device_ns.load(Relaxed) as f64 / 1e9,
            tokens_per_s: ratio(tokens, step_s.sum()),
            weight_bytes,
            kv_bytes,
            bytes_per_token: ratio(bytes, tokens as f64),
            read_bytes_per_s: ratio(bytes, step_s.sum()),
            step_s,
        }
    }
}

/// Figures of the steps of a phase. Ratios are `None` where there was no such step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseFigures {
    /// Number of steps.
    pub steps: u64,
    /// Tokens of prompts that were read.
    pub prefill_tokens: u64,
    /// Tokens that were decoded.
    pub decode_tokens: u64,
    /// Sum of the durations of the steps.
    pub busy_s: f64,
    /// What of it a device with a clock of its own computed, by that clock; 0 on the CPU.
    pub device_s: f64,
    /// `(prefill_tokens + decode_tokens) / busy_s`.
    pub tokens_per_s: Option<f64>,
    /// Bytes of weights that were read.
    pub weight_bytes: u64,
    /// Bytes of keys and values that were read.
    pub kv_bytes: u64,
    /// `(weight_bytes + kv_bytes) / (prefill_tokens + decode_tokens)`.
    pub bytes_per_token: Option<f64>,
    /// Bandwidth reached, `(weight_bytes + kv_bytes) / busy_s`.
    pub read_bytes_per_s: Option<f64>,
    /// Durations of the steps.
    pub step_s: Distribution,
}
