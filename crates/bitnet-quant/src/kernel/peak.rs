//! How many int8 products this CPU adds up per second when nothing waits for memory: the limit of prefill.
//!
//! One loop per instruction set, on registers alone, with the instructions its kernels are made of and enough
//! independent sums to hide their latency.
#![expect(unsafe_code, reason = "calls code compiled for an instruction set")]

use std::hint::black_box;
use std::time::Instant;

use bitnet_core::{Isa, ThreadPool};

use crate::Result;

/// Independent sums: more than latency times throughput of any instruction used here.
const SUMS: usize = 12;
/// Turns of the loop per unit of work.
const TURNS: usize = 4096;
/// Units per thread: enough that each thread takes the same share.
const UNITS_PER_THREAD: usize = 64;
/// A run lasts at least this long.
const RUN_S: f64 = 0.02;
const RUNS: usize = 7;

/// A loop of `turns`, and what one turn multiplies and adds.
struct Loop {
    run: unsafe fn(turns: usize),
    macs_per_turn: usize,
}

/// Peak rate in 10^9 int8 multiply-accumulates per second of the threads of `pool` with the instructions of `isa`: the
/// median of several runs of 20 ms or more.
///
/// Errors: [`bitnet_core::Error::IsaUnavailable`].
pub fn int8_peak_gmac_s(isa: Isa, pool: &ThreadPool) -> Result<f64> {
    let Loop { run, macs_per_turn } = of_isa(isa.require()?);
    let units = UNITS_PER_THREAD * pool.threads();
    let time = |turns: usize| {
        let start = Instant::now();
        pool.split(units, 1, |units| {
            for _ in units {
                // SAFETY: `require` found the instruction set on this CPU.
                unsafe { run(turns) };
            }
        });
        start.elapsed().as_secs_f64()
    };
    let mut turns = TURNS;
    while time(turns) < RUN_S {
        turns *= 2;
    }
    let macs = (units * turns * macs_per_turn) as f64;
    let mut rates: Vec<f64> = (0..RUNS).map(|_| macs / time(turns) / 1e9).collect();
    rates.sort_by(f64::total_cmp);
    Ok(rates[RUNS / 2])
}

fn of_isa(isa: Isa) -> Loop {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => Loop { run: x86_64::avx512vnni, macs_per_turn: SUMS * 64 },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Loop { run: x86_64::avx2, macs_per_turn: SUMS * 32 },
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDotprod => Loop { run: aarch64::dotprod, macs_per_turn: SUMS * 16 },
        _ => Loop { run: scalar, macs_per_turn: SUMS },
    }
}

fn scalar(turns: usize) {
    let x = i32::from(black_box(3_i8));
    let mut sums = black_box([1_i32; SUMS]);
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = sum.wrapping_add(i32::from(*sum as i8) * x);
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{
        _mm256_add_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8, _mm512_dpbusd_epi32, _mm512_set1_epi8,
    };
    use std::hint::black_box;

    use super::SUMS;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn avx512vnni(turns: usize) {
        let (codes, x) = (_mm512_set1_epi8(black_box(2)), _mm512_set1_epi8(black_box(3)));
        let mut sums = [_mm512_set1_epi8(0); SUMS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, codes, x);
            }
        }
        black_box(sums);
    }

    /// The product depends on the sum, so that it is computed in every turn.
    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(turns: usize) {
        let x = _mm256_set1_epi8(black_box(3));
        let mut sums = [_mm256_set1_epi8(black_box(1)); SUMS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(*sum, x));
            }
        }
        black_box(sums);
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use std::arch::aarch64::{vdupq_n_s8, vdupq_n_s32};
    use std::arch::asm;
    use std::hint::black_box;

    use super::SUMS;

    #[target_feature(enable = "neon,dotprod")]
    pub(super) fn dotprod(turns: usize) {
        let (codes, x) = (vdupq_n_s8(black_box(2)), vdupq_n_s8(black_box(3)));
        let mut sums = [vdupq_n_s32(0); SUMS];
        for _ in 0..turns {
            for sum in &mut sums {
                // SAFETY: one instruction on registers; the feature is enabled for this function.
                unsafe {
                    asm!("sdot {sum:v}.4s, {codes:v}.16b, {x:v}.16b", sum = inout(vreg) *sum,
                         codes = in(vreg) codes, x = in(vreg) x,
                         options(pure, nomem, nostack, preserves_flags));
                }
            }
        }
        black_box(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_of_this_machine_has_a_peak() {
        let pool = ThreadPool::new(1).unwrap();
        for isa in Isa::available() {
            let peak = int8_peak_gmac_s(isa, &pool).unwrap();
            assert!(peak.is_finite() && peak > 0.0, "{isa}: {peak}");
            println!("{isa}: {peak:.1} GMAC/s");
        }
    }
}
