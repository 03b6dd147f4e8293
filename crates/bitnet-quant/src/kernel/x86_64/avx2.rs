//! AVX2: `vpmaddubsw` multiplies 32 codes with 32 activations and adds neighbours to 16-bit sums, which are widened
//! before they overflow.
#![expect(unsafe_code, reason = "vector instructions")]

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::table::table;
use super::super::vector::Vector;
use super::bytes::bytes;

table!(Avx2, #[target_feature(enable = "avx2")], panels 2, rows 2, groups 2, tile 2 x 6);

#[derive(Clone, Copy)]
pub(in super::super) struct Avx2(__m256i);

/// Pairs of 16-bit sums to 32-bit ones.
#[inline]
#[target_feature(enable = "avx2")]
fn widen(sum: __m256i) -> __m256i {
    _mm256_madd_epi16(sum, _mm256_set1_epi16(1))
}

/// The same vector, hidden from the compiler.
#[inline]
#[target_feature(enable = "avx2")]
fn unknown(mut v: __m256i) -> __m256i {
    // SAFETY: no instruction; the feature is enabled for this function. Not pure: twice the same would be computed once.
    unsafe { asm!("/* {v} */", v = inout(ymm_reg) v, options(nomem, nostack, preserves_flags)) };
    v
}

// SAFETY throughout: the caller runs on a CPU with the instruction set and has the memory that it points to.
impl Vector for Avx2 {
    bytes!(256);

    const HAS_WIDE_DOT: bool = false;
    // Neighbours add up to 3 * 2 * 128 a step in 16 bits, or 7 * 2 * 128.
    const MAX_STEPS: usize = 32;
    const MAX_OCTAL_STEPS: usize = 18;
    const PAIR_SHIFT: usize = 0;
    const CENTRES_TRITS: bool = false;

    type Sum = __m256i;

    #[inline(always)]
    unsafe fn pair(self, pair: usize) -> Self {
        unsafe { self.low_pair(pair) }
    }

    #[inline(always)]
    unsafe fn triple(self) -> Self {
        Self(unsafe { _mm256_add_epi8(_mm256_add_epi8(self.0, self.0), self.0) })
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn dot(sum: Self::Sum, codes: Self, x: Self) -> Self::Sum {
        unsafe { _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes.0, x.0)) }
    }

    #[inline(always)]
    unsafe fn unknown(self) -> Self {
        Self(unsafe { unknown(self.0) })
    }

    #[inline(always)]
    unsafe fn add_to(sum: Self::Sum, shift: usize, out: *mut i32) {
        unsafe {
            let shifted = _mm256_sra_epi32(widen(sum), _mm_cvtsi32_si128(shift as i32));
            let sum = _mm256_add_epi32(_mm256_loadu_si256(out.cast()), shifted);
            _mm256_storeu_si256(out.cast(), sum);
        }
    }

    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> i32 {
        unsafe {
            let sum = widen(sum);
            let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
        }
    }
}
