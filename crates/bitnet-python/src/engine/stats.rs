//! The figures of an engine as Python reads them, by the names of the snapshot and its JSON.

use std::collections::BTreeMap;

use bitnet_inference::monitor::{self, Counts, Kind, PhaseFigures, Snapshot};
use pyo3::prelude::*;

/// Figures by the name of what they count.
type ByName = BTreeMap<&'static str, u64>;

/// What an engine has done since it was made. Names end in their unit: _s seconds, _bytes, _per_s.
#[pyclass(frozen, module = "bitnet_rust")]
pub(crate) struct EngineStats {
    snapshot: Snapshot,
    /// What became of the requests.
    #[pyo3(get)]
    requests: Py<RequestStats>,
    /// From the submission of a request to its first token.
    #[pyo3(get)]
    time_to_first_token_s: Py<Distribution>,
    /// From one token of a request to the next.
    #[pyo3(get)]
    inter_token_latency_s: Py<Distribution>,
    /// Steps that read prompts only.
    #[pyo3(get)]
    prefill: Py<PhaseStats>,
    /// Steps that decode only.
    #[pyo3(get)]
    decode: Py<PhaseStats>,
    /// Steps that do both.
    #[pyo3(get)]
    mixed: Py<PhaseStats>,
    /// How full the steps were.
    #[pyo3(get)]
    batch: Py<BatchStats>,
    /// The KV cache as of the last step.
    #[pyo3(get)]
    kv_pages: Py<KvPageStats>,
    /// Prompts that were known already.
    #[pyo3(get)]
    prefix_cache: Py<PrefixCacheStats>,
    /// Guesses of next tokens.
    #[pyo3(get)]
    speculation: Py<SpeculationStats>,
}

/// What became of the requests.
#[pyclass(frozen, get_all, module = "bitnet_rust")]
pub(crate) struct RequestStats {
    /// Taken into the queue.
    submitted: u64,
    /// Turned away.
    rejected: u64,
    /// Ended without an error, by finish_reason.
    finished: ByName,
    /// Ended with an error.
    failed: u64,
    /// Submitted and not ended: running or waiting.
    active: u64,
}

/// Steps of one kind. Ratios are None where there was no such step.
#[pyclass(frozen, get_all, module = "bitnet_rust")]
pub(crate) struct PhaseStats {
    /// Number of steps.
    steps: u64,
    /// Tokens of prompts that were read.
    prefill_tokens: u64,
    /// Tokens that were decoded.
    decode_tokens: u64,
    /// Sum of the durations of the steps.
    busy_s: f64,
    /// What of it a GPU computed, by its own clock; 0 on the CPU.
    device_s: f64,
    /// (prefill_tokens + decode_tokens) / busy_s.
    tokens_per_s: Option<f64>,
    /// Bytes of weights that were read.
    weight_bytes: u64,
    /// Bytes of keys and values that were read.
    kv_bytes: u64,
    /// (weight_bytes + kv_bytes) / (prefill_tokens + decode_tokens).
    bytes_per_token: Option<f64>,
    /// Bandwidth reached, (weight_bytes + kv_bytes) / busy_s.
    read_bytes_per_s: Option<f64>,
    /// Durations of the steps.
    step_s: Py<Distribution>,
}

/// How full the steps were.
#[pyclass(frozen, get_all, module = "bitnet_rust")]
pub(crate) struct BatchStats {
    /// Sequences that a step may have.
    capacity: u64,
    /// Sequences of all steps by their places, 0 to 1; None before the first step.
    occupancy: Option<f64>,
    /// Sequences of a step.
    sequences: Py<Distribution>,
}

/// Pages of the KV cache.
#[pyclass(frozen, get_all, module = "bitnet_rust")]
pub(crate) struct KvPageStats {
    /// In use.
    used: u64,
    /// There are.
    total: u64,
}

/// What the prefix cache saved.
#[pyclass(frozen, get_all, module = "bitnet_rust")]
pub(crate) struct PrefixCacheStats {
    /// Prompts it was asked for.
    lookups: u64,
    /// Those of which it held a beginning.
    hits: u64,
    /// Tokens of these beginnings, which were not computed again.
    reused_tokens: u64,
}

/// Guesses of next tokens.
#[pyclass(frozen, get_all, module = "bitnet_rust")]
pub(crate) struct SpeculationStats {
    /// Those that were computed.
    proposed: u64,
    /// Those of them that came true.
    accepted: u64,
}

/// Values by their size, within 0.8 %. None where there is no value.
#[pyclass(frozen, module = "bitnet_rust")]
pub(crate) struct Distribution(monitor::Distribution);

#[pymethods]
impl EngineStats {
    /// The model.
    #[getter]
    fn model(&self) -> &str {
        &self.snapshot.model
    }

    /// Seconds since the engine was made.
    #[getter]
    fn uptime_s(&self) -> f64 {
        self.snapshot.uptime_s
    }

    /// Requests that ended with an error, by what it was about.
    #[getter]
    fn errors(&self) -> ByName {
        by_name(&self.snapshot.errors)
    }

    /// How often the engine found a way on, by which: "retry", "fallback", "degrade", "preempt", "isolate".
    #[getter]
    fn recoveries(&self) -> ByName {
        by_name(&self.snapshot.recoveries)
    }

    /// Requests that wait for a place.
    #[getter]
    fn queue_depth(&self) -> u64 {
        self.snapshot.queue_depth
    }

    /// As one JSON object, with the names of the attributes.
    fn to_json(&self) -> String {
        self.snapshot.to_json()
    }

    /// In the text format of Prometheus, version 0.0.4.
    fn to_prometheus(&self) -> String {
        self.snapshot.to_prometheus()
    }

    fn __repr__(&self) -> String {
        let Snapshot { model, requests, decode, .. } = &self.snapshot;
        let speed = decode.tokens_per_s.map_or("none yet".to_owned(), |speed| format!("{speed:.1} tokens/s"));
        format!("EngineStats({model:?}, {} requests, decode {speed})", requests.submitted)
    }
}

impl EngineStats {
    pub(super) fn new(py: Python<'_>, snapshot: Snapshot) -> PyResult<Self> {
        let Snapshot { requests, batch, kv_pages, prefix_cache, speculation, .. } = &snapshot;
        let requests = RequestStats {
            submitted: requests.submitted,
            rejected: requests.rejected,
            finished: by_name(&requests.finished),
            failed: requests.failed,
            active: requests.active,
        };
        let batch = BatchStats {
            capacity: batch.capacity,
            occupancy: batch.occupancy,
            sequences: Distribution::new(py, &batch.sequences)?,
        };
        let kv_pages = KvPageStats { used: kv_pages.used, total: kv_pages.total };
        let prefix_cache = PrefixCacheStats {
            lookups: prefix_cache.lookups,
            hits: prefix_cache.hits,
            reused_tokens: prefix_cache.reused_tokens,
        };
        let speculation = SpeculationStats { proposed: speculation.proposed, accepted: speculation.accepted };
        Ok(Self {
            requests: Py::new(py, requests)?,
            time_to_first_token_s: Distribution::new(py, &snapshot.time_to_first_token_s)?,
            inter_token_latency_s: Distribution::new(py, &snapshot.inter_token_latency_s)?,
            prefill: PhaseStats::new(py, &snapshot.prefill)?,
            decode: PhaseStats::new(py, &snapshot.decode)?,
            mixed: PhaseStats::new(py, &snapshot.mixed)?,
            batch: Py::new(py, batch)?,
            kv_pages: Py::new(py, kv_pages)?,
            prefix_cache: Py::new(py, prefix_cache)?,
            speculation: Py::new(py, speculation)?,
            snapshot,
        })
    }
}

impl PhaseStats {
    fn new(py: Python<'_>, figures: &PhaseFigures) -> PyResult<Py<Self>> {
        let stats = Self {
            steps: figures.steps,
            prefill_tokens: figures.prefill_tokens,
            decode_tokens: figures.decode_tokens,
            busy_s: figures.busy_s,
            device_s: figures.device_s,
            tokens_per_s: figures.tokens_per_s,
            weight_bytes: figures.weight_bytes,
            kv_bytes: figures.kv_bytes,
            bytes_per_token: figures.bytes_per_token,
            read_bytes_per_s: figures.read_bytes_per_s,
            step_s: Distribution::new(py, &figures.step_s)?,
        };
        Py::new(py, stats)
    }
}

#[pymethods]
impl Distribution {
    /// Number of values.
    #[getter]
    fn count(&self) -> u64 {
        self.0.count()
    }

    /// Their mean.
    #[getter]
    fn mean(&self) -> Option<f64> {
        self.0.mean()
    }

    /// The median.
    #[getter]
    fn p50(&self) -> Option<f64> {
        self.0.quantile(0.5)
    }

    /// What a tenth of them exceeds.
    #[getter]
    fn p90(&self) -> Option<f64> {
        self.0.quantile(0.9)
    }

    /// What a hundredth of them exceeds.
    #[getter]
    fn p99(&self) -> Option<f64> {
        self.0.quantile(0.99)
    }

    /// The greatest, exactly.
    #[getter]
    fn max(&self) -> Option<f64> {
        self.0.max()
    }

    /// The smallest value that at least the share q of all does not exceed.
    fn quantile(&self, q: f64) -> Option<f64> {
        self.0.quantile(q)
    }

    fn __repr__(&self) -> String {
        let shown = |value: Option<f64>| value.map_or("None".to_owned(), |value| value.to_string());
        format!(
            "Distribution(count={}, p50={}, p99={})",
            self.0.count(),
            shown(self.p50()),
            shown(self.p99())
        )
    }
}

impl Distribution {
    fn new(py: Python<'_>, values: &monitor::Distribution) -> PyResult<Py<Self>> {
        Py::new(py, Self(values.clone()))
    }
}

fn by_name<K: Kind>(counts: &Counts<K>) -> ByName {
    counts.iter().map(|(kind, count)| (kind.name(), count)).collect()
}
