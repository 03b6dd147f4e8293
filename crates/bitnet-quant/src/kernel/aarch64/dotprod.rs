//! NEON with the dot product extension: `sdot` multiplies 16 codes with 16 activations and adds fours of them to
//! 32-bit sums.
//!
//! It takes signed bytes. For base 3 they are centred: `c_0 = v_0 - 128`, which flips the highest bit, and
//! `c_(k+1) = 3 c_k`, wrapped to a signed byte, is `v_(k+1) - 128` again, since `3 * 128 = 128` modulo 256. With
//! `3 v_k - v_(k+1) = 256 t_k` (see `dense.rs`),
//!
//! ```text
//! 3 c_k - c_(k+1) = 3 v_k - v_(k+1) - 384 + 128 = 256 (t_k - 1)
//! ```
//!
//! so that `(3 s_k - s_(k+1)) / 256` is the sum of `(t_k - 1) x`: the product itself, without an offset.
#![expect(unsafe_code, reason = "vector instructions")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::super::table::table;
use super::super::vector::Vector;
use super::bytes::bytes;

table!(Dotprod, #[target_feature(enable = "neon,dotprod")], panels 4, rows 4, groups 4, tile 2 x 12);

#[derive(Clone, Copy)]
pub(in super::super) struct Dotprod(pub(super) uint8x16_t);

/// `sum[l] + codes[4 l ..] . x[4 l ..]`, whose intrinsic is not stable yet.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sum: int32x4_t, codes: uint8x16_t, x: uint8x16_t) -> int32x4_t {
    // SAFETY: one instruction on registers; the feature is enabled for this function.
    unsafe {
        asm!("sdot {sum:v}.4s, {codes:v}.16b, {x:v}.16b", sum = inout(vreg) sum, codes = in(vreg) codes,
             x = in(vreg) x, options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// `3 v` by two additions. In assembly, or the compiler makes multiplications by 9, 27, 81 of a chain of them, which
/// fewer units of a CPU can do.
#[inline]
#[target_feature(enable = "neon")]
fn triple(v: uint8x16_t) -> uint8x16_t {
    let mut out: uint8x16_t;
    // SAFETY: two instructions on registers; the feature is enabled for this function.
    unsafe {
        asm!("add {out:v}.16b, {v:v}.16b, {v:v}.16b", "add {out:v}.16b, {out:v}.16b, {v:v}.16b",
             out = out(vreg) out, v = in(vreg) v, options(pure, nomem, nostack, preserves_flags));
    }
    out
}

// SAFETY throughout: the caller runs on a CPU with NEON and its dot product and has the memory that it points to.
impl Vector for Dotprod {
    bytes!();

    const HAS_WIDE_DOT: bool = true;
    // 4 * 3 * 128 a step, or 4 * 15 * 128, in four sums that are added at the end: 4 * 7680 * 16,384 is below 2^29.
    const MAX_STEPS: usize = 1 << 14;
    const MAX_OCTAL_STEPS: usize = 1 << 14;
    const CENTRES_TRITS: bool = true;

    type Sum = int32x4_t;

    #[inline(always)]
    unsafe fn trits(self) -> Self {
        Self(unsafe { veorq_u8(self.0, vdupq_n_u8(128)) })
    }

    #[inline(always)]
    unsafe fn triple(self) -> Self {
        Self(unsafe { triple(self.0) })
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    unsafe fn dot(sum: Self::Sum, codes: Self, x: Self) -> Self::Sum {
        unsafe { sdot(sum, codes.0, x.0) }
    }

    #[inline(always)]
    unsafe fn add_to(sum: Self::Sum, shift: usize, out: *mut i32) {
        unsafe {
            let shifted = vshlq_s32(sum, vdupq_n_s32(-(shift as i32)));
            vst1q_s32(out, vaddq_s32(vld1q_s32(out), shifted));
        }
    }

    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> i32 {
        unsafe { vaddvq_s32(sum) }
    }
}
