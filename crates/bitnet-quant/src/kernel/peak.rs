//! Measures how fast this machine multiplies int8, the limit of prefill.
#![expect(unsafe_code, reason = "vector instructions")]

use std::hint::black_box;
use std::time::Instant;

use bitnet_core::{Isa, ThreadPool};

use super::TernaryKernel;
use super::vector::Vector;
use crate::Result;

/// Sums that are independent of each other: more than the latency of a product.
const SUMS: usize = 12;

/// Products on registers alone.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn steps<V: Vector>(steps: usize) -> i32 {
    // SAFETY: as the caller's.
    unsafe { steps_of::<V>(steps, |sum, codes, x| V::dot(sum, codes, x.unknown())) }
}

/// [`steps`] of another product.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn steps_of<V: Vector>(steps: usize, product: impl Fn(V::Sum, V, V) -> V::Sum) -> i32 {
    let bytes = black_box([1_u8; 64]);
    // SAFETY: the array holds a vector of any size.
    unsafe {
        let (codes, x) = (V::load(bytes.as_ptr()), V::load(bytes.as_ptr()));
        let mut sums = [V::zero(); SUMS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = product(*sum, codes, x);
            }
        }
        let mut total = 0_i32;
        for sum in sums {
            total = total.wrapping_add(V::total(sum));
        }
        total
    }
}

/// Int8 multiply-accumulates in 10^9 per second with the threads of `pool`: the median of several runs of the product
/// that the kernels of `isa` are made of, on registers.
pub fn int8_peak_gmac_s(isa: Isa, pool: &ThreadPool) -> Result<f64> {
    const RUNS: usize = 7;
    let table = TernaryKernel::new(isa)?.table;
    let run = |steps: usize| {
        let start = Instant::now();
        pool.split(pool.threads() * 4, 1, |chunks| {
            for _ in chunks {
                // SAFETY: `TernaryKernel::new` found the instruction set on this CPU.
                black_box(unsafe { (table.peak)(black_box(steps)) });
            }
        });
        start.elapsed().as_secs_f64()
    };
    // Long enough to measure, short enough to wait for: about 10 ms a run.
    let mut steps = 1000;
    while run(steps) < 5e-3 {
        steps *= 2;
    }
    let products = (steps * SUMS * table.products_per_step * pool.threads() * 4) as f64;
    let mut rates: Vec<f64> = (0..RUNS).map(|_| products / run(steps) / 1e9).collect();
    rates.sort_by(f64::total_cmp);
    Ok(rates[RUNS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_multiplies() {
        let pool = ThreadPool::new(1).unwrap();
        for isa in Isa::available() {
            assert!(int8_peak_gmac_s(isa, &pool).unwrap() > 0.0, "{isa}");
        }
    }
}
