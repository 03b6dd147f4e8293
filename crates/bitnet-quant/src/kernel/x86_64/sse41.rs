//! SSE4.1: as AVX2, in 128-bit vectors.
#![expect(unsafe_code, reason = "vector instructions")]

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::table::table;
use super::super::vector::Vector;
use super::bytes::bytes;

table!(Sse41, #[target_feature(enable = "sse4.1")], panels 2, rows 2, groups 2, tile 2 x 6);

#[derive(Clone, Copy)]
pub(in super::super) struct Sse41(__m128i);

/// Pairs of 16-bit sums to 32-bit ones.
#[inline]
#[target_feature(enable = "sse4.1")]
fn widen(sum: __m128i) -> __m128i {
    _mm_madd_epi16(sum, _mm_set1_epi16(1))
}

/// The same vector, hidden from the compiler.
#[inline]
#[target_feature(enable = "sse4.1")]
fn unknown(mut v: __m128i) -> __m128i {
    // SAFETY: no instruction; the feature is enabled for this function. Not pure: twice the same would be computed once.
    unsafe { asm!("/* {v} */", v = inout(xmm_reg) v, options(nomem, nostack, preserves_flags)) };
    v
}

// SAFETY throughout: the caller runs on a CPU with the instruction set and has the memory that it points to.
impl Vector for Sse41 {
    bytes!(128);

    const HAS_WIDE_DOT: bool = false;
    // Neighbours add up to 3 * 2 * 128 a step in 16 bits, or 7 * 2 * 128.
    const MAX_STEPS: usize = 32;
    const MAX_OCTAL_STEPS: usize = 18;
    const PAIR_SHIFT: usize = 0;
    const CENTRES_TRITS: bool = false;

    type Sum = __m128i;

    #[inline(always)]
    unsafe fn pair(self, pair: usize) -> Self {
        unsafe { self.low_pair(pair) }
    }

    #[inline(always)]
    unsafe fn triple(self) -> Self {
        Self(unsafe { _mm_add_epi8(_mm_add_epi8(self.0, self.0), self.0) })
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        unsafe { _mm_setzero_si128() }
    }

    #[inline(always)]
    unsafe fn dot(sum: Self::Sum, codes: Self, x: Self) -> Self::Sum {
        unsafe { _mm_add_epi16(sum, _mm_maddubs_epi16(codes.0, x.0)) }
    }

    #[inline(always)]
    unsafe fn unknown(self) -> Self {
        Self(unsafe { unknown(self.0) })
    }

    #[inline(always)]
    unsafe fn add_to(sum: Self::Sum, shift: usize, out: *mut i32) {
        unsafe {
            let shifted = _mm_sra_epi32(widen(sum), _mm_cvtsi32_si128(shift as i32));
            let sum = _mm_add_epi32(_mm_loadu_si128(out.cast()), shifted);
            _mm_storeu_si128(out.cast(), sum);
        }
    }

    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> i32 {
        unsafe {
            let four = widen(sum);
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
        }
    }
}
