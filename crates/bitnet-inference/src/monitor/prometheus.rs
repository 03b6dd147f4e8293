//! Figures in the text format of Prometheus, version 0.0.4.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>. Only counts and sums are exposed, never rates:
//! `rate()` and `histogram_quantile()` make those of them, over any time.

mod families;

use std::fmt::{Display, Write};

use self::families::ENGINE;
use super::{Counts, Distribution, Kind, Snapshot};

/// The type of a family of metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Type {
    Counter,
    Gauge,
    Histogram,
}

/// Metrics of one name, which differ in their labels, made of a source of figures.
pub(crate) struct Family<S> {
    pub(crate) name: &'static str,
    pub(crate) kind: Type,
    /// Without line breaks and backslashes.
    pub(crate) help: &'static str,
    pub(crate) write: fn(&S, &mut Samples<'_>),
}

/// Where a family writes its samples.
pub(crate) struct Samples<'a> {
    name: &'static str,
    /// Labels of every sample.
    common: &'a Labels<'a>,
    out: String,
}

/// Labels and their values.
type Labels<'a> = [(&'a str, &'a str)];

/// The figures of several engines, labelled by their models, which have different names.
pub fn prometheus(engines: &[&Snapshot]) -> String {
    let labels: Vec<_> = engines.iter().map(|engine| [("model", engine.model.as_str())]).collect();
    let sources: Vec<_> =
        engines.iter().zip(&labels).map(|(engine, labels)| (*engine, &labels[..])).collect();
    text(ENGINE, &sources)
}

/// All metrics of the sources, which differ in their labels.
pub(crate) fn text<S>(families: &[Family<S>], sources: &[(&S, &Labels<'_>)]) -> String {
    let mut out = String::new();
    for family in families {
        let samples: Vec<String> =
            sources.iter().map(|(source, labels)| family.samples(source, labels)).collect();
        family.write(&samples.concat(), &mut out);
    }
    out
}

impl<S> Family<S> {
    fn samples(&self, source: &S, common: &Labels<'_>) -> String {
        let mut samples = Samples { name: self.name, common, out: String::new() };
        (self.write)(source, &mut samples);
        samples.out
    }

    fn write(&self, samples: &str, out: &mut String) {
        if samples.is_empty() {
            return;
        }
        let Self { name, help, .. } = self;
        let kind = match self.kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}");
    }
}

impl Samples<'_> {
    /// `name{labels} value`.
    pub(crate) fn value(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.line("", labels, value);
    }

    /// A sample for every kind, the label `label` naming it.
    fn counts<K: Kind>(&mut self, label: &str, counts: &Counts<K>) {
        for (kind, count) in counts.iter() {
            self.value(&[(label, kind.name())], count);
        }
    }

    /// Cumulative buckets up to each of `bounds`, sum and count.
    fn histogram(&mut self, labels: &Labels<'_>, values: &Distribution, bounds: impl Iterator<Item = u64>) {
        let mut bucket = |bound: &str, count| {
            self.line("_bucket", &[labels, &[("le", bound)]].concat(), count);
        };
        for bound in bounds {
            bucket(&values.shown(bound).to_string(), values.at_most(bound));
        }
        bucket("+Inf", values.count());
        self.line("_sum", labels, values.sum());
        self.line("_count", labels, values.count());
    }

    fn line(&mut self, suffix: &str, labels: &Labels<'_>, value: impl Display) {
        let _ = write!(self.out, "{}{suffix}", self.name);
        for (index, (name, value)) in self.common.iter().chain(labels).enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{before}{name}=\"{}\"", escaped(value));
        }
        let end = if self.common.len() + labels.len() == 0 { "" } else { "}" };
        let _ = writeln!(self.out, "{end} {value}");
    }
}

/// The value of a label as it stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
