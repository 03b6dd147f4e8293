//! The metrics of an engine, one after another. `docs/monitoring.md` lists them as well.

use super::{Family, Samples, Type};
use crate::monitor::{PhaseFigures, Snapshot};

pub(super) const ENGINE: &[Family<Snapshot>] = &[
    Family {
        name: "bitnet_uptime_seconds",
        kind: Type::Gauge,
        help: "Time since the monitor was made.",
        write: |s, to| to.value(&[], s.uptime_s),
    },
    Family {
        name: "bitnet_requests_submitted_total",
        kind: Type::Counter,
        help: "Requests taken into the queue.",
        write: |s, to| to.value(&[], s.requests.submitted),
    },
    Family {
        name: "bitnet_requests_rejected_total",
        kind: Type::Counter,
        help: "Requests turned away because the queue was full.",
        write: |s, to| to.value(&[], s.requests.rejected),
    },
    Family {
        name: "bitnet_requests_finished_total",
        kind: Type::Counter,
        help: "Requests that ended without an error.",
        write: |s, to| to.counts("reason", &s.requests.finished),
    },
    Family {
        name: "bitnet_requests_failed_total",
        kind: Type::Counter,
        help: "Requests that ended with an error.",
        write: |s, to| to.counts("kind", &s.errors),
    },
    Family {
        name: "bitnet_requests_active",
        kind: Type::Gauge,
        help: "Requests that run or wait.",
        write: |s, to| to.value(&[], s.requests.active),
    },
    Family {
        name: "bitnet_queue_depth",
        kind: Type::Gauge,
        help: "Requests that wait for a place in the batch.",
        write: |s, to| to.value(&[], s.queue_depth),
    },
    Family {
        name: "bitnet_recoveries_total",
        kind: Type::Counter,
        help: "Failures the engine found a way around.",
        write: |s, to| to.counts("kind", &s.recoveries),
    },
    Family {
        name: "bitnet_time_to_first_token_seconds",
        kind: Type::Histogram,
        help: "From the submission of a request to its first token.",
        write: |s, to| to.histogram(&[], &s.time_to_first_token_s, nanoseconds()),
    },
    Family {
        name: "bitnet_inter_token_latency_seconds",
        kind: Type::Histogram,
        help: "From one token of a request to the next.",
        write: |s, to| to.histogram(&[], &s.inter_token_latency_s, nanoseconds()),
    },
    Family {
        name: "bitnet_step_duration_seconds",
        kind: Type::Histogram,
        help: "Duration of a step, by what it does.",
        write: |s, to| by_phase(s, |phase, p| to.histogram(&[phase], &p.step_s, nanoseconds())),
    },
    Family {
        name: "bitnet_device_seconds_total",
        kind: Type::Counter,
        help: "Time that a GPU computed by its own clock, by what its steps do.",
        write: |s, to| by_phase(s, |phase, p| to.value(&[phase], p.device_s)),
    },
    Family {
        name: "bitnet_tokens_total",
        kind: Type::Counter,
        help: "Tokens of prompts read (prefill) and tokens decoded (decode), by what their steps do.",
        write: |s, to| {
            by_phase(s, |phase, p| {
                for (kind, tokens) in [("prefill", p.prefill_tokens), ("decode", p.decode_tokens)] {
                    to.value(&[phase, ("kind", kind)], tokens);
                }
            });
        },
    },
    Family {
        name: "bitnet_read_bytes_total",
        kind: Type::Counter,
        help: "Bytes of weights, and of keys and values, read from memory.",
        write: |s, to| {
            by_phase(s, |phase, p| {
                for (what, bytes) in [("weights", p.weight_bytes), ("kv", p.kv_bytes)] {
                    to.value(&[phase, ("what", what)], bytes);
                }
            });
        },
    },
    Family {
        name: "bitnet_batch_sequences",
        kind: Type::Histogram,
        help: "Sequences in a step.",
        write: |s, to| to.histogram(&[], &s.batch.sequences, (0..7).map(|k| 1 << k)),
    },
    Family {
        name: "bitnet_batch_capacity",
        kind: Type::Gauge,
        help: "Sequences that a step may have.",
        write: |s, to| to.value(&[], s.batch.capacity),
    },
    Family {
        name: "bitnet_kv_pages_used",
        kind: Type::Gauge,
        help: "Pages of the KV cache in use.",
        write: |s, to| to.value(&[], s.kv_pages.used),
    },
    Family {
        name: "bitnet_kv_pages",
        kind: Type::Gauge,
        help: "Pages of the KV cache.",
        write: |s, to| to.value(&[], s.kv_pages.total),
    },
    Family {
        name: "bitnet_prefix_cache_lookups_total",
        kind: Type::Counter,
        help: "Prompts the prefix cache was asked for.",
        write: |s, to| to.value(&[], s.prefix_cache.lookups),
    },
    Family {
        name: "bitnet_prefix_cache_hits_total",
        kind: Type::Counter,
        help: "Prompts of which the prefix cache held a beginning.",
        write: |s, to| to.value(&[], s.prefix_cache.hits),
    },
    Family {
        name: "bitnet_prefix_cache_reused_tokens_total",
        kind: Type::Counter,
        help: "Tokens of prompts that were not computed again.",
        write: |s, to| to.value(&[], s.prefix_cache.reused_tokens),
    },
    Family {
        name: "bitnet_speculation_proposed_total",
        kind: Type::Counter,
        help: "Guesses of next tokens that were computed.",
        write: |s, to| to.value(&[], s.speculation.proposed),
    },
    Family {
        name: "bitnet_speculation_accepted_total",
        kind: Type::Counter,
        help: "Guesses that came true.",
        write: |s, to| to.value(&[], s.speculation.accepted),
    },
    Family {
        name: "bitnet_layer_seconds_total",
        kind: Type::Counter,
        help: "Time in each half of a layer, while layers are timed.",
        write: layers,
    },
];

/// Bounds of durations: 16 microseconds to two minutes, each twice the one before.
fn nanoseconds() -> impl Iterator<Item = u64> {
    (14..=37).map(|k| (1 << k) - 1)
}

fn by_phase(s: &Snapshot, mut write: impl FnMut((&str, &str), &PhaseFigures)) {
    for (name, figures) in [("prefill", &s.prefill), ("decode", &s.decode), ("mixed", &s.mixed)] {
        write(("phase", name), figures);
    }
}

fn layers(s: &Snapshot, to: &mut Samples<'_>) {
    for (index, layer) in s.layers.iter().enumerate() {
        let index = index.to_string();
        for (half, seconds) in [("attention", layer.attention_s), ("feed_forward", layer.feed_forward_s)] {
            to.value(&[("layer", &index), ("half", half)], seconds);
        }
    }
}
