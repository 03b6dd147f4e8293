//! The limits of the machine, measured beside every test: what it can read, what it can multiply.

use bitnet_core::bandwidth::ReadProbe;
use bitnet_core::{Isa, ThreadPool};
use bitnet_inference::Result;
use bitnet_quant::kernel::int8_peak_gmac_s;

use crate::row::Spread;

/// Sums of the buffer in one sample.
const SUMS: usize = 3;

/// What a number of threads can do together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peaks {
    /// The number of threads.
    pub threads: usize,
    /// Bytes read from memory, in 10^9 per second.
    pub read_bandwidth_gb_s: f64,
    /// Int8 multiply-accumulates, in 10^9 per second.
    pub int8_peak_gmac_s: f64,
}

impl Peaks {
    /// The median of each figure over samples of the same threads, of which there is at least one.
    pub fn median(samples: &[Self]) -> Self {
        let median = |figure: fn(&Self) -> f64| {
            let mut figures: Vec<f64> = samples.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            Spread::of_sorted(&figures).median
        };
        Self {
            threads: samples[0].threads,
            read_bandwidth_gb_s: median(|peaks| peaks.read_bandwidth_gb_s),
            int8_peak_gmac_s: median(|peaks| peaks.int8_peak_gmac_s),
        }
    }
}

/// Measures peaks again and again, so that a machine whose speed drifts is compared with itself. Its buffer stays in
/// memory.
#[derive(Debug)]
pub struct PeakMeter {
    probe: ReadProbe,
    isa: Isa,
}

impl PeakMeter {
    /// A meter with a buffer of `buffer_bytes`, for the instructions of `isa`.
    ///
    /// Errors: [`bitnet_core::Error::OutOfMemory`].
    pub fn new(pool: &ThreadPool, isa: Isa, buffer_bytes: usize) -> Result<Self> {
        Ok(Self { probe: ReadProbe::new(pool, buffer_bytes)?, isa })
    }

    /// The peaks of the threads of `pool` now.
    pub fn sample(&self, pool: &ThreadPool) -> Result<Peaks> {
        Ok(Peaks {
            threads: pool.threads(),
            read_bandwidth_gb_s: self.probe.gb_per_s(pool, SUMS),
            int8_peak_gmac_s: int8_peak_gmac_s(self.isa, pool)?,
        })
    }

    /// Bytes that the meter keeps resident.
    pub fn resident_bytes(&self) -> u64 {
        self.probe.size_bytes() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_their_threads_and_a_median() {
        let pool = ThreadPool::new(2).unwrap();
        let meter = PeakMeter::new(&pool, Isa::Scalar, 1 << 20).unwrap();
        let peaks = meter.sample(&pool).unwrap();
        assert_eq!(peaks.threads, 2);
        assert!(peaks.read_bandwidth_gb_s > 0.0 && peaks.int8_peak_gmac_s > 0.0);
        let twice = Peaks { int8_peak_gmac_s: 2.0 * peaks.int8_peak_gmac_s, ..peaks };
        assert_eq!(Peaks::median(&[twice, peaks, twice]), twice);
    }
}
