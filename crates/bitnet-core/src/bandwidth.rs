//! Measures how fast this machine reads memory, the limit of decoding.
//!
//! A buffer much larger than the caches is summed with all threads. The loop has 64 sums, eight vectors of 64 bytes,
//! so that many loads are under way at once, and is compiled for the widest vectors of the CPU whatever kernels are
//! selected: the bandwidth is a fact of the machine. Threads claim small chunks, so that one which loses its core
//! for a moment holds nobody up. The memory is in huge pages, as weights are.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crate::{DisjointSlice, Error, Pages, Result, ThreadPool};

/// Independent sums.
const LANES: usize = 64;
/// Bytes of one turn of the loop.
const BLOCK_BYTES: usize = LANES * size_of::<u64>();
/// Blocks a thread claims at once: 1 MiB, long for the prefetchers and short for the system's scheduler.
const BLOCKS_PER_CHUNK: usize = (1 << 20) / BLOCK_BYTES;

/// Memory to read.
#[derive(Debug)]
pub struct ReadProbe {
    memory: Pages,
}

impl ReadProbe {
    /// Takes memory of `bytes` (at least one block), which should be several times the last-level cache, and writes it
    /// once with the threads of `pool`. It goes back to the system when the probe is dropped.
    ///
    /// Errors: [`Error::OutOfMemory`].
    pub fn new(pool: &ThreadPool, bytes: usize) -> Result<Self> {
        let bytes = bytes.max(1).checked_next_multiple_of(BLOCK_BYTES).ok_or(Error::OutOfMemory { bytes })?;
        let mut memory = Pages::zeroed(bytes)?;
        touch(pool, memory.as_mut_slice());
        Ok(Self { memory })
    }

    /// Bytes of the memory.
    pub fn size_bytes(&self) -> usize {
        self.memory.as_ref().len()
    }

    /// Read bandwidth in GB/s (10^9 bytes per second) with the threads of `pool`: the median of `repetitions` sums.
    pub fn gb_per_s(&self, pool: &ThreadPool, repetitions: usize) -> f64 {
        let words: &[u64] = bytemuck::cast_slice(self.memory.as_ref());
        let (blocks, _) = words.as_chunks::<LANES>();
        let mut rates: Vec<f64> = (0..repetitions.max(1))
            .map(|_| {
                let start = Instant::now();
                sum_together(pool, blocks);
                size_of_val(words) as f64 / start.elapsed().as_secs_f64() / 1e9
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    }
}

/// Writes every page. Not zero: pages of zeros may be one shared page.
#[expect(unsafe_code, reason = "threads write disjoint pages")]
fn touch(pool: &ThreadPool, memory: &mut [u8]) {
    let len = memory.len();
    let memory = DisjointSlice::new(memory);
    pool.split(len, 1 << 20, |range| {
        // SAFETY: ranges of a split are disjoint.
        unsafe { memory.part(range) }.fill(1);
    });
}

/// The sum of all words, with all threads.
#[expect(unsafe_code, reason = "calls code compiled for an instruction set")]
fn sum_together(pool: &ThreadPool, blocks: &[[u64; LANES]]) -> u64 {
    let sum = sum_for_this_cpu();
    let (next, total) = (AtomicUsize::new(0), AtomicU64::new(0));
    pool.split(pool.threads(), 1, |_| {
        while let Some(chunk) = blocks.chunks(BLOCKS_PER_CHUNK).nth(next.fetch_add(1, Ordering::Relaxed)) {
            // SAFETY: `sum_for_this_cpu` found the instruction set on this CPU.
            total.fetch_add(unsafe { sum(chunk) }, Ordering::Relaxed);
        }
    });
    black_box(total.into_inner())
}

type Sum = unsafe fn(&[[u64; LANES]]) -> u64;

fn sum_for_this_cpu() -> Sum {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        return sum_avx512;
    } else if is_x86_feature_detected!("avx2") {
        return sum_avx2;
    }
    sum
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sum_avx512(blocks: &[[u64; LANES]]) -> u64 {
    sum(blocks)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(blocks: &[[u64; LANES]]) -> u64 {
    sum(blocks)
}

#[inline(always)]
fn sum(blocks: &[[u64; LANES]]) -> u64 {
    let mut lanes = [0_u64; LANES];
    for block in blocks {
        for i in 0..LANES {
            lanes[i] = lanes[i].wrapping_add(block[i]);
        }
    }
    lanes.into_iter().fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_something_finite_and_positive() {
        for threads in [1, 2] {
            let pool = ThreadPool::new(threads).unwrap();
            for bytes in [0, 1, 1 << 20] {
                let rate = ReadProbe::new(&pool, bytes).unwrap().gb_per_s(&pool, 3);
                assert!(rate.is_finite() && rate > 0.0, "{threads} {bytes}");
            }
        }
    }

    #[test]
    fn every_byte_is_read_once() {
        let pool = ThreadPool::new(2).unwrap();
        let probe = ReadProbe::new(&pool, (1 << 21) + 5).unwrap();
        let words: &[u64] = bytemuck::cast_slice(probe.memory.as_ref());
        let (blocks, rest) = words.as_chunks::<LANES>();
        assert!(rest.is_empty() && size_of_val(words) > 1 << 21);
        let expected = 0x0101_0101_0101_0101_u64.wrapping_mul(words.len() as u64);
        assert_eq!(sum_together(&pool, blocks), expected);
    }

    #[test]
    fn more_memory_than_there_is_is_an_error() {
        let pool = ThreadPool::new(1).unwrap();
        for bytes in [usize::MAX >> 2, usize::MAX] {
            assert!(ReadProbe::new(&pool, bytes).is_err());
        }
    }
}
