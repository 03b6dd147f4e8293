//! AVX-VNNI: `vpdpbusd` in 256-bit vectors.
#![expect(unsafe_code, reason = "vector instructions")]

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::table::table;
use super::super::vector::Vector;
use super::bytes::bytes;

table!(AvxVnni, #[target_feature(enable = "avx2,avxvnni")], panels 2, rows 2, groups 2, tile 3 x 4);

#[derive(Clone, Copy)]
pub(in super::super) struct AvxVnni(__m256i);

/// `3 v` by two additions; see the AVX-512 version for the reason.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn triple(v: __m256i) -> __m256i {
    let mut out: __m256i;
    // SAFETY: two instructions on registers; the feature is enabled for this function.
    unsafe {
        asm!("vpaddb {out}, {v}, {v}", "vpaddb {out}, {out}, {v}", out = out(ymm_reg) out, v = in(ymm_reg) v,
             options(pure, nomem, nostack, preserves_flags));
    }
    out
}

// SAFETY throughout: the caller runs on a CPU with the instruction set and has the memory that it points to.
impl Vector for AvxVnni {
    bytes!(256);

    const HAS_WIDE_DOT: bool = true;
    // 2 * 64 * 128 * 4 stays below 2^31 up to 32,767 steps.
    const MAX_STEPS: usize = 1 << 14;
    const MAX_OCTAL_STEPS: usize = 1 << 14;
    const PAIR_SHIFT: usize = 2;
    const CENTRES_TRITS: bool = false;

    type Sum = __m256i;

    #[inline(always)]
    unsafe fn pair(self, pair: usize) -> Self {
        Self(unsafe { _mm256_and_si256(self.0, _mm256_set1_epi8((3_u8 << (2 * pair)).cast_signed())) })
    }

    #[inline(always)]
    unsafe fn triple(self) -> Self {
        Self(unsafe { triple(self.0) })
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn dot(sum: Self::Sum, codes: Self, x: Self) -> Self::Sum {
        unsafe { _mm256_dpbusd_avx_epi32(sum, codes.0, x.0) }
    }

    #[inline(always)]
    unsafe fn add_to(sum: Self::Sum, shift: usize, out: *mut i32) {
        unsafe {
            let shifted = _mm256_sra_epi32(sum, _mm_cvtsi32_si128(shift as i32));
            let sum = _mm256_add_epi32(_mm256_loadu_si256(out.cast()), shifted);
            _mm256_storeu_si256(out.cast(), sum);
        }
    }

    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> i32 {
        unsafe {
            let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
        }
    }

    #[inline(always)]
    unsafe fn total_of([a, b, c, d]: [Self::Sum; 4]) -> i32 {
        unsafe { Self::total(_mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d))) }
    }
}
