//! The limits of the machine, measured beside every test: what it can read, what it can multiply.

use bitnet_core::bandwidth::ReadProbe;
use bitnet_core::{Isa, ThreadPool};
use bitnet_inference::Result;
use bitnet_quant::kernel::int8_peak_gmac_s;

const REPETITIONS: usize = 7;

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
    /// Measures the peaks of each of the thread counts: the bandwidth on one buffer of `buffer_bytes`, which is given
    /// back, the products with the instructions of `isa`.
    ///
    /// Errors: [`bitnet_core::Error::ThreadCount`], [`bitnet_core::Error::OutOfMemory`].
    pub fn measure(threads: &[usize], isa: Isa, buffer_bytes: usize) -> Result<Vec<Self>> {
        let pools = threads.iter().map(|&threads| ThreadPool::new(threads)).collect::<Result<Vec<_>, _>>()?;
        let Some(widest) = pools.iter().max_by_key(|pool| pool.threads()) else { return Ok(Vec::new()) };
        let probe = ReadProbe::new(widest, buffer_bytes)?;
        let peaks = |pool: &ThreadPool| {
            Ok(Self {
                threads: pool.threads(),
                read_bandwidth_gb_s: probe.gb_per_s(pool, REPETITIONS),
                int8_peak_gmac_s: int8_peak_gmac_s(isa, pool)?,
            })
        };
        pools.iter().map(peaks).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_count_has_peaks_in_the_order_asked_for() {
        let peaks = Peaks::measure(&[2, 1], Isa::Scalar, 1 << 20).unwrap();
        assert_eq!(peaks.iter().map(|peaks| peaks.threads).collect::<Vec<_>>(), [2, 1]);
        assert!(peaks.iter().all(|peaks| peaks.read_bandwidth_gb_s > 0.0 && peaks.int8_peak_gmac_s > 0.0));
    }
}
