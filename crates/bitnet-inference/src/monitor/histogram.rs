//! Distributions of durations and counts, recorded without a lock.
//!
//! Buckets are log-linear, as in HDR histograms: below `2 * 64` each value has its own, above that every octave is cut into
//! 64 of equal width. A bucket's middle is at most `1 / 128` of the value away, over the whole range of `u64`, so nothing
//! is ever out of range. `hdrhistogram` records through `&mut self` or a channel; this is two additions and a load.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// Binary logarithm of the buckets of an octave.
const OCTAVE_BITS: u32 = 6;

/// Buckets of all octaves.
const BUCKETS: usize = bucket_of(u64::MAX) + 1;

/// Counts of values by their size. Many threads may record at once.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    max: AtomicU64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        let buckets = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, sum: AtomicU64::new(0), max: AtomicU64::new(0) }
    }

    pub(super) fn record(&self, value: u64) {
        self.buckets[bucket_of(value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
        // A load is cheaper than an exchange, and most values are no maximum.
        if value > self.max.load(Relaxed) {
            self.max.fetch_max(value, Relaxed);
        }
    }

    /// Records nanoseconds, to be read in seconds.
    pub(super) fn record_duration(&self, duration: Duration) {
        self.record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What was recorded, in the unit of the values.
    pub(super) fn counts(&self) -> Distribution {
        self.read(1.0)
    }

    /// What was recorded by [`Self::record_duration`], in seconds.
    pub(super) fn seconds(&self) -> Distribution {
        self.read(1e9)
    }

    fn read(&self, per_unit: f64) -> Distribution {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).enumerate();
        let buckets = counts.filter(|&(_, count)| count > 0).collect();
        Distribution { per_unit, buckets, sum: self.sum.load(Relaxed), max: self.max.load(Relaxed) }
    }
}

/// How values are distributed. Quantiles are within 0.8 % of the exact ones; counts below 128 are exact.
///
/// Serialized as `count`, `mean`, `p50`, `p90`, `p99` and `max`; all but the first are null where nothing was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// What was recorded for one of the unit that is shown: 10^9 where nanoseconds become seconds.
    per_unit: f64,
    /// Index and count of the buckets that are not empty, in order.
    buckets: Vec<(usize, u64)>,
    sum: u64,
    max: u64,
}

impl Distribution {
    /// Number of values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Their sum.
    pub fn sum(&self) -> f64 {
        self.shown(self.sum)
    }

    /// `sum / count`.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum() / count as f64)
    }

    /// The greatest, exactly.
    pub fn max(&self) -> Option<f64> {
        (!self.buckets.is_empty()).then(|| self.shown(self.max))
    }

    /// The smallest value that at least the share `q` of all does not exceed: nearest rank.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = ((q * self.count() as f64).ceil() as u64).max(1);
        let mut below = 0;
        let (bucket, _) = self.buckets.iter().find(|(_, count)| {
            below += count;
            below >= rank
        })?;
        let (first, last) = range_of(*bucket);
        // Nothing is above the maximum, though the middle of its bucket may be.
        Some(self.shown((first + (last - first) / 2).min(self.max)))
    }

    /// How many values are at most `bound`, the last of a bucket: 0 to 127, or `2^k - 1`.
    pub(super) fn at_most(&self, bound: u64) -> u64 {
        let up_to = bucket_of(bound);
        self.buckets.iter().take_while(|(bucket, _)| *bucket <= up_to).map(|(_, count)| count).sum()
    }

    /// A recorded value in the unit that is shown.
    pub(super) fn shown(&self, recorded: u64) -> f64 {
        recorded as f64 / self.per_unit
    }
}

impl Serialize for Distribution {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut fields = to.serialize_struct("Distribution", 6)?;
        fields.serialize_field("count", &self.count())?;
        fields.serialize_field("mean", &self.mean())?;
        fields.serialize_field("p50", &self.quantile(0.5))?;
        fields.serialize_field("p90", &self.quantile(0.9))?;
        fields.serialize_field("p99", &self.quantile(0.99))?;
        fields.serialize_field("max", &self.max())?;
        fields.end()
    }
}

const fn bucket_of(value: u64) -> usize {
    // The bits that a bucket does not tell apart.
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(OCTAVE_BITS + 1);
    ((shift as usize) << OCTAVE_BITS) + (value >> shift) as usize
}

/// First and last value of a bucket.
fn range_of(bucket: usize) -> (u64, u64) {
    let shift = (bucket >> OCTAVE_BITS).saturating_sub(1);
    let first = ((bucket - (shift << OCTAVE_BITS)) as u64) << shift;
    (first, first + ((1 << shift) - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recorded(values: &[u64]) -> Distribution {
        let histogram = Histogram::new();
        for value in values {
            histogram.record(*value);
        }
        histogram.counts()
    }

    #[test]
    fn buckets_are_neighbours_and_cover_everything() {
        let mut next = 0_u64;
        for bucket in 0..BUCKETS {
            let (first, last) = range_of(bucket);
            assert_eq!(first, next);
            assert_eq!((bucket_of(first), bucket_of(last)), (bucket, bucket));
            assert!((last - first) as f64 <= first as f64 / 64.0, "{bucket}");
            next = last.wrapping_add(1);
        }
        assert_eq!(next, 0);
    }

    #[test]
    fn nothing_recorded_is_nothing_known() {
        let nothing = recorded(&[]);
        assert_eq!((nothing.count(), nothing.sum()), (0, 0.0));
        assert_eq!((nothing.mean(), nothing.max(), nothing.quantile(0.5)), (None, None, None));
        assert_eq!(serde_json::to_value(&nothing).unwrap()["p99"], serde_json::Value::Null);
    }

    #[test]
    fn threads_lose_no_value() {
        let histogram = Histogram::new();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let histogram = &histogram;
                scope.spawn(move || (0..1000).for_each(|value| histogram.record(value * 4 + thread)));
            }
        });
        let read = histogram.counts();
        assert_eq!((read.count(), read.sum(), read.max()), (4000, 3999.0 * 2000.0, Some(3999.0)));
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_values(
            values in proptest::collection::vec((any::<u64>(), 0..64_u32).prop_map(|(x, shift)| x >> shift), 1..200),
            q in 0.0..=1.0,
        ) {
            let read = recorded(&values);
            let mut sorted = values.clone();
            sorted.sort_unstable();
            for q in [q, 0.5, 0.9, 0.99] {
                let rank = ((q * sorted.len() as f64).ceil() as usize).max(1);
                let exact = sorted[rank - 1] as f64;
                let error = (read.quantile(q).unwrap() - exact).abs();
                prop_assert!(error <= exact / 128.0, "{q}: {:?}, not {exact}", read.quantile(q));
                prop_assert!(exact >= 128.0 || error == 0.0);
            }
            prop_assert_eq!(read.count(), values.len() as u64);
            prop_assert_eq!(read.max(), Some(*sorted.last().unwrap() as f64));
            for bound in [0, 1, 64, 127, 1023, (1 << 40) - 1, u64::MAX] {
                let exact = values.iter().filter(|value| **value <= bound).count();
                prop_assert_eq!(read.at_most(bound), exact as u64);
            }
        }
    }
}
