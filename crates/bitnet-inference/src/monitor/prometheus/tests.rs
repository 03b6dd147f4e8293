//! What is written, read back by the rules of the format.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::FinishReason;
use crate::model_cache::ModelCacheStats;
use crate::model_cache::metrics::METRICS;
use crate::monitor::{ErrorKind, Half, PerformanceMonitor, StepReport};

type Set = BTreeMap<String, String>;

/// A family as a scraper sees it.
#[derive(Debug, Default)]
struct Scraped {
    kind: String,
    /// Name and labels of every sample, and its value.
    samples: Vec<(String, Set, f64)>,
}

/// Panics where the text breaks a rule: HELP, TYPE and samples of a name stand together, once, and in this order.
fn scrape(text: &str) -> BTreeMap<String, Scraped> {
    let mut families: BTreeMap<String, Scraped> = BTreeMap::new();
    let mut current = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(!help.is_empty() && is_name(name), "{line}");
            assert!(families.insert(name.to_owned(), Scraped::default()).is_none(), "{name} twice");
            name.clone_into(&mut current);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let kind = kind.strip_prefix(&format!("{current} ")).expect("behind its HELP");
            let family = families.get_mut(&current).unwrap();
            assert!(family.kind.is_empty() && family.samples.is_empty(), "{line}");
            kind.clone_into(&mut family.kind);
        } else {
            let family = families.get_mut(&current).unwrap();
            let (name, labels, value) = sample(line);
            let suffix = name.strip_prefix(&current).unwrap();
            let suffixes: &[&str] =
                if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.contains(&suffix), "{line}");
            let is_new = family.samples.iter().all(|(n, l, _)| (n, l) != (&name, &labels));
            assert!(is_new, "twice: {line}");
            family.samples.push((name, labels, value));
        }
    }
    families
}

/// Names of this crate have neither capitals nor colons, which the format allows.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn sample(line: &str) -> (String, Set, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Set::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, quoted) = rest.split_once("=\"").unwrap();
            let (value, behind) = unquote(quoted);
            assert!(is_name(label) && labels.insert(label.to_owned(), value).is_none(), "{line}");
            match behind.split_at(1) {
                (",", more) => rest = more,
                ("}", more) => break rest = more,
                _ => panic!("{line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    (name.to_owned(), labels, value)
}

/// A text up to its closing quote, and what is behind that.
fn unquote(quoted: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), quoted.char_indices());
    loop {
        match chars.next().unwrap() {
            (at, '"') => return (value, &quoted[at + 1..]),
            (_, '\\') => value.push(match chars.next().unwrap().1 {
                'n' => '\n',
                same @ ('\\' | '"') => same,
                other => panic!("\\{other}"),
            }),
            (_, c) => value.push(c),
        }
    }
}

fn monitor(model: &str) -> PerformanceMonitor {
    let monitor = PerformanceMonitor::new(model, 2);
    for (prefill_tokens, decode_tokens) in [(64, 0), (0, 3), (16, 2)] {
        let duration = Duration::from_millis(5);
        let (sequences, capacity) = (3, 8);
        monitor.step(&StepReport {
            prefill_tokens,
            decode_tokens,
            sequences,
            capacity,
            duration,
            ..StepReport::default()
        });
    }
    monitor.submitted();
    monitor.finished(FinishReason::Length);
    monitor.failed(ErrorKind::Hub);
    monitor.first_token(Duration::from_micros(300));
    monitor.next_token(Duration::from_millis(7));
    monitor.layer_times().set_on(true);
    monitor.layer_times().clock().lap(1, Half::FeedForward);
    monitor
}

fn stats() -> ModelCacheStats {
    ModelCacheStats { hits: 1, misses: 2, evictions: 3, models: 4, resident_bytes: 5, budget_bytes: 6 }
}

#[test]
fn two_engines_and_a_cache_of_models_are_well_formed() {
    let (a, b) = (monitor("a").snapshot(), monitor("b").snapshot());
    // One page, as a server gives it.
    let families = scrape(&(prometheus(&[&a, &b]) + &stats().to_prometheus()));
    assert_eq!(families.len(), ENGINE.len() + METRICS.len());
    for (name, family) in &families {
        assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}");
        let is_of_engines = !name.starts_with("bitnet_model_cache");
        for (_, labels, value) in &family.samples {
            assert_eq!(labels.contains_key("model"), is_of_engines, "{name}");
            assert!(value.is_finite() && *value >= 0.0);
        }
    }
    let value = |name: &str| families[name].samples[0].2;
    assert_eq!(
        (value("bitnet_requests_submitted_total"), value("bitnet_model_cache_budget_bytes")),
        (1.0, 6.0)
    );
    let tokens: f64 = families["bitnet_tokens_total"].samples.iter().map(|(_, _, tokens)| tokens).sum();
    assert_eq!(tokens, 2.0 * 85.0);
}

#[test]
fn buckets_are_cumulative_and_end_in_the_count() {
    let families = scrape(&monitor("a").snapshot().to_prometheus());
    let mut series: BTreeMap<(String, Set), Vec<(f64, f64)>> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for (name, labels, value) in families.into_values().flat_map(|family| family.samples) {
        let mut labels = labels;
        if let Some(family) = name.strip_suffix("_bucket") {
            let bound = labels.remove("le").unwrap().parse().unwrap();
            series.entry((family.to_owned(), labels)).or_default().push((bound, value));
        } else if let Some(family) = name.strip_suffix("_count") {
            counts.insert((family.to_owned(), labels), value);
        }
    }
    assert_eq!(series.len(), 6);
    for (key, buckets) in series {
        assert!(buckets.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1), "{key:?}");
        assert_eq!(*buckets.last().unwrap(), (f64::INFINITY, counts[&key]), "{key:?}");
        // Every duration above is between the first bound and the last.
        assert_eq!(buckets[0].1, 0.0, "{key:?}");
        assert_eq!(buckets[buckets.len() - 2].1, counts[&key], "{key:?}");
    }
}

#[test]
fn the_docs_name_every_metric() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/monitoring.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let names = ENGINE.iter().map(|family| family.name).chain(METRICS.iter().map(|family| family.name));
    for name in names {
        assert!(docs.contains(&format!("`{name}`")), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_name_of_a_model_comes_through(name in "[ -~\n\"\\\\äλ]{0,12}") {
        let families = scrape(&PerformanceMonitor::new(name.clone(), 0).snapshot().to_prometheus());
        let (_, labels, _) = &families["bitnet_queue_depth"].samples[0];
        prop_assert_eq!(&labels["model"], &name);
        // Without layers there is nothing to say of them.
        prop_assert!(!families.contains_key("bitnet_layer_seconds_total"));
    }
}
