//! A line of the report: what a test gave, and how that compares with what the machine can do.

use bitnet_inference::backend::Traffic;
use serde::Serialize;

use crate::peaks::Peaks;
use crate::test::{Measurement, Test};

/// The result of a test. Names and units are those of the JSON output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// `pp<N>`, `tg<N>` or `tg<N> x<B>`.
    pub test: String,
    /// Threads it ran on.
    pub threads: usize,
    /// Sequences at once.
    pub batch: usize,
    /// Speed over the repetitions, of all sequences together.
    pub tokens_per_s: Spread,
    /// Median speed over that of one sequence alone, where that was measured, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_speedup: Option<f64>,
    /// Bytes of weights, keys and values read per token.
    pub bytes_per_token: f64,
    /// Read bandwidth of the threads, measured in the same run.
    pub read_bandwidth_gb_s: f64,
    /// Int8 multiply-accumulates of the threads, measured in the same run.
    pub int8_peak_gmac_s: f64,
    /// Decoding: median tokens/s divided by the read bandwidth in GB/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_score: Option<f64>,
    /// Prefill: the share of the int8 peak that the ternary products alone, at the median speed, make use of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_share: Option<f64>,
    /// Memory resident at most since before the model was loaded, where the system says.
    pub peak_memory_bytes: Option<u64>,
    /// Share of the gates that are positive, where they are looked at one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positive_gate_share: Option<f64>,
    /// Share of the inputs of the down projections that are not zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_input_share: Option<f64>,
    /// Rows of the head computed again exactly per token, where it has a compact copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescored_rows_per_token: Option<f64>,
}

/// A figure over repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The spread of values in ascending order. Panics without any.
    pub fn of_sorted(values: &[f64]) -> Self {
        let last = values.len() - 1;
        let median = f64::midpoint(values[last / 2], values[last.div_ceil(2)]);
        Self { median, min: values[0], max: values[last] }
    }
}

impl Row {
    /// Puts a measurement beside the peaks of its threads. `macs_per_token` counts the ternary products.
    pub fn new(
        measured: &Measurement,
        peaks: &Peaks,
        macs_per_token: usize,
        peak_memory_bytes: Option<u64>,
    ) -> Self {
        let Measurement { test, traffic, .. } = *measured;
        let tokens = measured.tokens as f64;
        let speed = Spread::of_sorted(&measured.tokens_per_s);
        let Traffic { weight_bytes, kv_bytes, neurons, active_neurons, down_columns, .. } = traffic;
        let is_decode = matches!(test, Test::Decode { .. });
        let gmac_s = speed.median * macs_per_token as f64 / 1e9;
        let share = |part: u64| (neurons > 0).then(|| part as f64 / neurons as f64);
        Self {
            test: test.to_string(),
            threads: peaks.threads,
            batch: test.batch(),
            batch_speedup: None,
            tokens_per_s: speed,
            bytes_per_token: (weight_bytes + kv_bytes) as f64 / tokens,
            read_bandwidth_gb_s: peaks.read_bandwidth_gb_s,
            int8_peak_gmac_s: peaks.int8_peak_gmac_s,
            decode_score: is_decode.then_some(speed.median / peaks.read_bandwidth_gb_s),
            prefill_share: (!is_decode).then_some(gmac_s / peaks.int8_peak_gmac_s),
            peak_memory_bytes,
            positive_gate_share: share(active_neurons),
            down_input_share: share(down_columns),
            rescored_rows_per_token: (traffic.scored_rows > 0).then(|| traffic.rescored_rows as f64 / tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEAKS: Peaks = Peaks { threads: 2, read_bandwidth_gb_s: 20.0, int8_peak_gmac_s: 500.0 };

    fn measured(test: Test, traffic: Traffic) -> Measurement {
        Measurement { test, tokens_per_s: vec![10.0, 40.0, 50.0], tokens: 30, traffic }
    }

    #[test]
    fn figures_follow_from_speed_peaks_and_counters() {
        let traffic = Traffic {
            weight_bytes: 3000,
            kv_bytes: 300,
            neurons: 1000,
            active_neurons: 500,
            down_columns: 250,
            scored_rows: 9000,
            rescored_rows: 60,
            device_ns: 0,
        };
        let row = Row::new(
            &measured(Test::Decode { tokens: 10, batch: 1 }, traffic),
            &PEAKS,
            1_000_000_000,
            Some(7),
        );
        assert_eq!(row.tokens_per_s, Spread { median: 40.0, min: 10.0, max: 50.0 });
        assert_eq!((row.bytes_per_token, row.decode_score, row.prefill_share), (110.0, Some(2.0), None));
        assert_eq!((row.positive_gate_share, row.down_input_share), (Some(0.5), Some(0.25)));
        assert_eq!((row.rescored_rows_per_token, row.peak_memory_bytes), (Some(2.0), Some(7)));
        let row = Row::new(&measured(Test::Prefill(10), Traffic::default()), &PEAKS, 1_000_000_000, None);
        assert_eq!((row.decode_score, row.prefill_share), (None, Some(0.08)));
        assert_eq!((row.positive_gate_share, row.rescored_rows_per_token), (None, None));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_ones() {
        assert_eq!(Spread::of_sorted(&[1.0, 2.0, 4.0, 9.0]).median, 3.0);
        assert_eq!(Spread::of_sorted(&[5.0]), Spread { median: 5.0, min: 5.0, max: 5.0 });
    }
}
