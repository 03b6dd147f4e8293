//! Measures how fast this machine reads memory, the limit of decoding.

use std::hint::black_box;
use std::time::Instant;

use crate::ThreadPool;

/// Read bandwidth in GB/s (10^9 bytes per second) with the threads of `pool`: the median of `repetitions` sums over
/// a buffer of `bytes`, which should be several times the last-level cache.
pub fn read_gb_per_s(pool: &ThreadPool, bytes: usize, repetitions: usize) -> f64 {
    let words = (bytes / size_of::<u64>()).max(1);
    // Not zero: pages of zeros may be one shared page.
    let data = vec![1_u64; words];
    let mut rates: Vec<f64> = (0..repetitions.max(1))
        .map(|_| {
            let start = Instant::now();
            pool.split(words, 4096, |range| {
                black_box(data[range].iter().fold(0_u64, |sum, &word| sum.wrapping_add(word)));
            });
            size_of_val(data.as_slice()) as f64 / start.elapsed().as_secs_f64() / 1e9
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_something_finite() {
        let pool = ThreadPool::new(1).unwrap();
        let rate = read_gb_per_s(&pool, 1 << 20, 3);
        assert!(rate.is_finite() && rate > 0.0);
    }
}
