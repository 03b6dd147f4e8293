//! Types of `bitnet-quant` as JSON. What is infinite, as the signal to noise of no error, becomes null.

use bitnet_quant::{ErrorMetrics, Precision, Statistics};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeStruct, Serializer};

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference to the field")]
pub(super) fn name<S: Serializer>(precision: &Precision, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(precision)
}

pub(super) fn metrics<S: Serializer>(error: &ErrorMetrics, to: S) -> Result<S::Ok, S::Error> {
    let ErrorMetrics { mse, sqnr_db, cosine, max_abs } = error;
    let mut fields = to.serialize_struct("ErrorMetrics", 4)?;
    fields.serialize_field("mse", mse)?;
    fields.serialize_field("sqnr_db", sqnr_db)?;
    fields.serialize_field("cosine", cosine)?;
    fields.serialize_field("max_abs", max_abs)?;
    fields.end()
}

struct Metrics<'a>(&'a ErrorMetrics);

impl Serialize for Metrics<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        metrics(self.0, to)
    }
}

#[expect(clippy::ref_option, reason = "serde hands a reference to the field")]
pub(super) fn optional_metrics<S: Serializer>(
    error: &Option<ErrorMetrics>,
    to: S,
) -> Result<S::Ok, S::Error> {
    error.as_ref().map(Metrics).serialize(to)
}

/// By name of the precision, in order.
pub(super) fn errors<S: Serializer>(errors: &[(Precision, ErrorMetrics)], to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(errors.len()))?;
    for (precision, error) in errors {
        map.serialize_entry(&precision.to_string(), &Metrics(error))?;
    }
    map.end()
}

/// Moments, and the bins of `|x|` that are not empty as `[from, to, count]`.
pub(super) fn statistics<S: Serializer>(statistics: &Statistics, to: S) -> Result<S::Ok, S::Error> {
    let bins: Vec<(f32, f32, u64)> =
        statistics.histogram().bins().map(|(bin, count)| (bin.start, bin.end, count)).collect();
    let mut map = to.serialize_map(Some(8))?;
    map.serialize_entry("count", &statistics.count())?;
    map.serialize_entry("mean", &statistics.mean())?;
    map.serialize_entry("std", &statistics.std())?;
    map.serialize_entry("min", &statistics.min())?;
    map.serialize_entry("max", &statistics.max())?;
    map.serialize_entry("absmean", &statistics.absmean())?;
    map.serialize_entry("zero_share", &statistics.zero_share())?;
    map.serialize_entry("histogram", &bins)?;
    map.end()
}
