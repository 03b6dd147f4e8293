//! AVX-512 VNNI: `vpdpbusd` multiplies 64 unsigned bytes with 64 activations and adds fours of them to 32-bit sums.
#![expect(unsafe_code, reason = "vector instructions")]

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::table::table;
use super::super::tile::tile;
use super::super::vector::Vector;
use super::bytes::bytes;

table!(Avx512Vnni, #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")], panels 4, rows 4, groups 4,
    tile_fn tile_of);

#[derive(Clone, Copy)]
pub(in super::super) struct Avx512Vnni(__m512i);

/// See `tile.rs`: whole tiles in one piece each, of 5 groups in base 3 and 4 with two bits, so that few loads go with
/// each product.
///
/// # Safety
/// The CPU has the features.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile_of(p: &mut TileProduct<'_>) {
    // SAFETY: as the caller's.
    unsafe {
        if p.groups().is_multiple_of(5) { tile::<Avx512Vnni, 5, 4>(p) } else { tile::<Avx512Vnni, 4, 6>(p) }
    }
}

/// `3 v` by two additions. In assembly, or the compiler makes multiplications by 9, 27, 81 of a chain of them, which
/// take several instructions each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn triple(v: __m512i) -> __m512i {
    let mut out: __m512i;
    // SAFETY: two instructions on registers; the feature is enabled for this function.
    unsafe {
        asm!("vpaddb {out}, {v}, {v}", "vpaddb {out}, {out}, {v}", out = out(zmm_reg) out, v = in(zmm_reg) v,
             options(pure, nomem, nostack, preserves_flags));
    }
    out
}

// SAFETY throughout: the caller runs on a CPU with AVX-512 F, BW, VL and VNNI and has the memory that it points to.
impl Vector for Avx512Vnni {
    bytes!(512);

    const HAS_WIDE_DOT: bool = true;
    // 2 * 64 * 128 * 4 stays below 2^31 up to 32,767 steps.
    const MAX_STEPS: usize = 1 << 14;
    const MAX_OCTAL_STEPS: usize = 1 << 14;
    const PAIR_SHIFT: usize = 2;
    const CENTRES_TRITS: bool = false;

    type Sum = __m512i;

    #[inline(always)]
    unsafe fn pair(self, pair: usize) -> Self {
        Self(unsafe { _mm512_and_si512(self.0, _mm512_set1_epi8((3_u8 << (2 * pair)).cast_signed())) })
    }

    #[inline(always)]
    unsafe fn triple(self) -> Self {
        Self(unsafe { triple(self.0) })
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn dot(sum: Self::Sum, codes: Self, x: Self) -> Self::Sum {
        unsafe { _mm512_dpbusd_epi32(sum, codes.0, x.0) }
    }

    #[inline(always)]
    unsafe fn add_to(sum: Self::Sum, shift: usize, out: *mut i32) {
        unsafe {
            let shifted = _mm512_sra_epi32(sum, _mm_cvtsi32_si128(shift as i32));
            let sum = _mm512_add_epi32(_mm512_loadu_si512(out.cast()), shifted);
            _mm512_storeu_si512(out.cast(), sum);
        }
    }

    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> i32 {
        unsafe { _mm512_reduce_add_epi32(sum) }
    }

    #[inline(always)]
    unsafe fn total_of([a, b, c, d]: [Self::Sum; 4]) -> i32 {
        unsafe { Self::total(_mm512_add_epi32(_mm512_add_epi32(a, b), _mm512_add_epi32(c, d))) }
    }
}
