//! What a monitor says of known events, what spans say, and what both cost.

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;
use crate::backend::Traffic;
use crate::{Error, LoadOptions, LoadedModel};

fn step(prefill_tokens: usize, decode_tokens: usize, sequences: usize, ms: u64) -> StepReport {
    StepReport {
        prefill_tokens,
        decode_tokens,
        sequences,
        capacity: 8,
        duration: Duration::from_millis(ms),
        traffic: Traffic { weight_bytes: 1000, kv_bytes: 200, device_ns: 500_000_000, ..Traffic::default() },
        queue_depth: 3,
        kv_pages_used: 5,
        kv_pages_total: 16,
    }
}

#[test]
fn steps_are_told_apart_by_what_they_do() {
    let monitor = PerformanceMonitor::new("m", 0);
    monitor.step(&step(100, 0, 2, 50));
    monitor.step(&step(0, 4, 4, 20));
    monitor.step(&step(0, 2, 2, 20));
    monitor.step(&step(30, 4, 6, 100));
    monitor.step(&step(0, 0, 0, 1000));
    let s = monitor.snapshot();
    assert_eq!((s.prefill.steps, s.decode.steps, s.mixed.steps), (1, 2, 1));
    assert_eq!((s.decode.decode_tokens, s.decode.weight_bytes, s.decode.kv_bytes), (6, 2000, 400));
    assert_eq!((s.prefill.device_s, s.decode.device_s), (0.5, 1.0));
    assert_eq!((s.mixed.prefill_tokens, s.mixed.decode_tokens), (30, 4));
    assert_close(s.prefill.tokens_per_s, 2000.0);
    assert_close(s.decode.tokens_per_s, 150.0);
    assert_close(s.decode.bytes_per_token, 400.0);
    assert_close(s.decode.read_bytes_per_s, 60_000.0);
    assert_close(s.decode.step_s.max(), 0.02);
    assert_close(s.batch.occupancy, 14.0 / 32.0);
    assert_eq!((s.batch.capacity, s.batch.sequences.quantile(0.5)), (8, Some(2.0)));
    assert_eq!((s.queue_depth, s.kv_pages), (3, KvPages { used: 5, total: 16 }));
}

fn assert_close(figure: Option<f64>, expected: f64) {
    let figure = figure.unwrap();
    assert!((figure / expected - 1.0).abs() < 1e-12, "{figure}, not {expected}");
}

#[test]
fn requests_are_followed_to_their_ends() {
    let monitor = PerformanceMonitor::new("m", 0);
    (0..5).for_each(|_| monitor.submitted());
    monitor.rejected();
    monitor.finished(FinishReason::Stop);
    monitor.finished(FinishReason::Cancelled);
    monitor.failed(Error::OutOfMemory { tokens: 7 }.kind());
    monitor.recovered(Recovery::Preempt);
    monitor.prefix_looked_up(0);
    monitor.prefix_looked_up(48);
    monitor.guessed(5);
    monitor.guessed_right();
    monitor.first_token(Duration::from_secs(2));
    monitor.next_token(Duration::from_millis(10));
    let s = monitor.snapshot();
    assert_eq!(
        (s.requests.submitted, s.requests.rejected, s.requests.failed, s.requests.active),
        (5, 1, 1, 2)
    );
    assert_eq!(s.requests.finished.of(FinishReason::Cancelled), 1);
    assert_eq!((s.errors.of(ErrorKind::OutOfMemory), s.errors.total()), (1, 1));
    assert_eq!(s.recoveries.of(Recovery::Preempt), 1);
    assert_eq!(s.prefix_cache, PrefixCache { lookups: 2, hits: 1, reused_tokens: 48 });
    assert_eq!(s.speculation, Guesses { proposed: 5, accepted: 1 });
    let json: serde_json::Value = serde_json::from_str(&s.to_json()).unwrap();
    assert_eq!(
        json["requests"]["finished"],
        serde_json::json!({"stop": 1, "length": 0, "cancelled": 1, "deadline": 0})
    );
    assert_eq!(json["errors"]["out_of_memory"], 1);
    assert_eq!(json["time_to_first_token_s"]["max"], 2.0);
    assert_eq!(json["decode"]["tokens_per_s"], serde_json::Value::Null);
}

#[test]
fn layers_are_timed_only_while_that_is_on() {
    let times = LayerTimes::new(2);
    let lap = |layer, half| {
        let mut clock = times.clock();
        std::thread::sleep(Duration::from_millis(2));
        clock.lap(layer, half);
    };
    lap(0, Half::Attention);
    assert_eq!(times.read(), [LayerSeconds::default(); 2]);
    times.set_on(true);
    lap(1, Half::Attention);
    lap(1, Half::FeedForward);
    let [first, second] = times.read()[..] else { panic!("two layers") };
    assert_eq!(first, LayerSeconds::default());
    assert!(second.attention_s >= 2e-3 && second.feed_forward_s >= 2e-3, "{second:?}");
}

/// Every list of kinds is in the order of their declaration, each under a name of its own.
#[test]
fn kinds_are_where_their_index_says() {
    fn check<K: Kind + PartialEq + std::fmt::Debug>() {
        for (index, kind) in K::ALL.iter().enumerate() {
            assert_eq!(kind.index(), index);
            assert_eq!(K::ALL.iter().filter(|other| other.name() == kind.name()).count(), 1, "{kind:?}");
        }
    }
    check::<ErrorKind>();
    check::<Recovery>();
    check::<FinishReason>();
    assert!(FinishReason::ALL.iter().all(|reason| reason.to_string() == reason.name()));
}

/// Writes down the names and fields of spans.
#[derive(Default)]
struct Recorder {
    spans: Mutex<Vec<String>>,
    next: AtomicU64,
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for &'static Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "bitnet_inference"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields(span.metadata().name().to_owned());
        span.record(&mut fields);
        self.spans.lock().unwrap().push(fields.0);
        Id::from_u64(self.next.fetch_add(1, Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {
        self.spans.lock().unwrap().push("end".to_owned());
    }
}

#[test]
fn a_subscriber_sees_the_spans() {
    let recorder: &'static Recorder = Box::leak(Box::default());
    tracing::subscriber::with_default(recorder, || {
        drop(span::load("tiny"));
        drop(span::step(3, 16, 2));
    });
    let spans = recorder.spans.lock().unwrap();
    let expected =
        ["load model=\"tiny\"", "end", "step sequences=3 prefill_tokens=16 decode_tokens=2", "end"];
    assert_eq!(*spans, expected);
}

/// Under one hundredth of a token of the smallest model there is.
#[test]
#[ignore = "measures time"]
fn watching_costs_less_than_a_hundredth() {
    let model = LoadedModel::embedded(&LoadOptions { threads: Some(1), ..LoadOptions::default() }).unwrap();
    let layers = model.config().layers;
    let mut sequence = model.backend().start(256).unwrap();
    let token = median(200, || sequence.feed(&[1], 1).unwrap());
    let monitor = PerformanceMonitor::new("m", layers);
    let report = step(0, 1, 1, 5);
    let watched = |steps: usize| {
        for _ in 0..steps {
            let _step = span::step(1, 0, 1);
            monitor.step(&report);
            monitor.next_token(Duration::from_micros(50));
        }
    };
    let watching = median(100, || watched(1000)) / 1000.0;
    let laps = || {
        let mut clock = monitor.layer_times().clock();
        for layer in 0..layers {
            clock.lap(layer, Half::Attention);
            clock.lap(layer, Half::FeedForward);
        }
    };
    let laps_off = median(100, || (0..1000).for_each(|_| laps())) / 1000.0;
    monitor.layer_times().set_on(true);
    let laps_on = median(100, || (0..1000).for_each(|_| laps())) / 1000.0;
    println!(
        "a token {token:.0} ns; a step with spans {watching:.0} ns; {layers} layers timed {laps_on:.0} ns, \
         not timed {laps_off:.1} ns"
    );
    assert!(watching < token / 100.0, "{watching} of {token} ns");
    assert!(laps_off < token / 1000.0, "{laps_off} of {token} ns");
}

/// Median nanoseconds of a call.
fn median(calls: usize, mut call: impl FnMut()) -> f64 {
    let mut times: Vec<u128> = (0..calls)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    times[calls / 2] as f64
}
