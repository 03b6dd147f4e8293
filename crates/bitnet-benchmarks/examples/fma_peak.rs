//! Float32 multiply-adds of this machine on registers, in GFLOP/s: what the products of training are compared with.
//!
//!     cargo run --release -p bitnet-benchmarks --example fma_peak -- [THREADS]
#![expect(unsafe_code, reason = "calls functions of instruction sets")]

use std::hint::black_box;
use std::time::Instant;

use bitnet_core::ThreadPool;

/// Sums that are independent of each other: more than fit into the latency of a multiply-add.
const SUMS: usize = 12;
const STEPS: usize = 1 << 20;
const RUNS: usize = 7;

/// Lanes of a vector, and the function that adds to `SUMS` of them `STEPS` times.
type Adds = (usize, fn() -> f32);

fn main() -> bitnet_core::Result<()> {
    let threads = std::env::args().nth(1).and_then(|argument| argument.parse().ok());
    let pool = ThreadPool::new(threads.unwrap_or_else(ThreadPool::default_threads))?;
    let adds = widest();
    let mut rates: Vec<f64> = (0..RUNS).map(|_| gflop_s(&pool, adds)).collect();
    rates.sort_by(f64::total_cmp);
    println!("{:.1}", rates[RUNS / 2]);
    Ok(())
}

fn gflop_s(pool: &ThreadPool, (lanes, add): Adds) -> f64 {
    let pieces = pool.threads() * 4;
    let begin = Instant::now();
    pool.split(pieces, 1, |pieces| {
        for _ in pieces {
            black_box(add());
        }
    });
    let flop = 2 * lanes * SUMS * STEPS * pieces;
    flop as f64 / begin.elapsed().as_secs_f64() / 1e9
}

/// `sums = sums * a + b` over and over, by the operations of an instruction set.
macro_rules! adds {
    ($set:ident, $multiply_add:ident, $total:expr) => {{
        let (a, b) = ($set(black_box(0.5)), $set(black_box(1.0)));
        let mut sums = [b; SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = $multiply_add(*sum, a, b);
            }
        }
        sums.into_iter().map($total).sum()
    }};
}

#[cfg(target_arch = "x86_64")]
fn widest() -> Adds {
    use std::arch::x86_64::{
        _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps,
        _mm512_set1_ps,
    };

    #[target_feature(enable = "avx512f")]
    fn avx512() -> f32 {
        adds!(_mm512_set1_ps, _mm512_fmadd_ps, |sum| _mm512_reduce_add_ps(sum))
    }
    #[target_feature(enable = "avx2,fma")]
    fn avx2() -> f32 {
        adds!(_mm256_set1_ps, _mm256_fmadd_ps, |sum| _mm256_cvtss_f32(sum))
    }
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has it, as was just seen.
        (16, || unsafe { avx512() })
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: as above.
        (8, || unsafe { avx2() })
    } else {
        (1, scalar)
    }
}

#[cfg(target_arch = "aarch64")]
fn widest() -> Adds {
    use std::arch::aarch64::{float32x4_t, vaddvq_f32, vdupq_n_f32, vfmaq_f32};

    fn neon() -> f32 {
        // SAFETY: every 64-bit ARM has NEON.
        unsafe { adds!(vdupq_n_f32, multiply_add, |sum| vaddvq_f32(sum)) }
    }
    #[target_feature(enable = "neon")]
    fn multiply_add(sum: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vfmaq_f32(b, sum, a)
    }
    (4, neon)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn widest() -> Adds {
    (1, scalar)
}

#[cfg(not(target_arch = "aarch64"))]
fn scalar() -> f32 {
    adds!(same, multiply_add, same)
}

#[cfg(not(target_arch = "aarch64"))]
fn same(x: f32) -> f32 {
    x
}

#[cfg(not(target_arch = "aarch64"))]
fn multiply_add(sum: f32, a: f32, b: f32) -> f32 {
    sum * a + b
}
