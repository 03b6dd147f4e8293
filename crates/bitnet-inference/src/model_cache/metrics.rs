//! The metrics of a cache of models. `docs/monitoring.md` lists them as well.

use super::ModelCacheStats;
use crate::monitor::prometheus::{Family, Type, text};

pub(crate) const METRICS: &[Family<ModelCacheStats>] = &[
    Family {
        name: "bitnet_model_cache_hits_total",
        kind: Type::Counter,
        help: "Models that were loaded already, or by another.",
        write: |s, to| to.value(&[], s.hits),
    },
    Family {
        name: "bitnet_model_cache_misses_total",
        kind: Type::Counter,
        help: "Models that had to be loaded.",
        write: |s, to| to.value(&[], s.misses),
    },
    Family {
        name: "bitnet_model_cache_evictions_total",
        kind: Type::Counter,
        help: "Models that gave way to others.",
        write: |s, to| to.value(&[], s.evictions),
    },
    Family {
        name: "bitnet_model_cache_models",
        kind: Type::Gauge,
        help: "Models in memory.",
        write: |s, to| to.value(&[], s.models),
    },
    Family {
        name: "bitnet_model_cache_resident_bytes",
        kind: Type::Gauge,
        help: "Bytes of their weights as the backend keeps them.",
        write: |s, to| to.value(&[], s.resident_bytes),
    },
    Family {
        name: "bitnet_model_cache_budget_bytes",
        kind: Type::Gauge,
        help: "Bytes that models may take.",
        write: |s, to| to.value(&[], s.budget_bytes),
    },
];

impl ModelCacheStats {
    /// In the text format of Prometheus, version 0.0.4.
    pub fn to_prometheus(&self) -> String {
        text(METRICS, &[(self, &[])])
    }
}
