//! NEON without the dot product: `smlal` multiplies 8 codes with 8 activations and adds each product to a 16-bit sum.
//! The sums are widened, and neighbours added, before they overflow.
#![expect(unsafe_code, reason = "vector instructions")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::super::table::table;
use super::super::vector::Vector;
use super::bytes::bytes;

table!(Neon, #[target_feature(enable = "neon")], panels 4, rows 4, groups 2, tile 2 x 4);

#[derive(Clone, Copy)]
pub(in super::super) struct Neon(uint8x16_t);

/// Fours of neighbouring 16-bit sums to 32-bit ones.
#[inline]
#[target_feature(enable = "neon")]
fn widen([low, high]: [int16x8_t; 2]) -> int32x4_t {
    vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high))
}

/// The same vector, hidden from the compiler.
#[inline]
#[target_feature(enable = "neon")]
fn unknown(mut v: uint8x16_t) -> uint8x16_t {
    // SAFETY: no instruction; the feature is enabled for this function. Not pure: twice the same would be computed once.
    unsafe { asm!("/* {v:v} */", v = inout(vreg) v, options(nomem, nostack, preserves_flags)) };
    v
}

// SAFETY throughout: the caller runs on a CPU with NEON, which every one has, and has the memory that it points to.
impl Vector for Neon {
    bytes!();

    const HAS_WIDE_DOT: bool = false;
    // A step adds one product, up to 3 * 128, to a sum: 85 * 384 = 32,640 is below 2^15.
    const MAX_STEPS: usize = 85;
    // Up to 7 * 128: 36 * 896 = 32,256.
    const MAX_OCTAL_STEPS: usize = 36;
    const CENTRES_TRITS: bool = false;

    /// Of the lower and of the upper 8 bytes, a sum each.
    type Sum = [int16x8_t; 2];

    #[inline(always)]
    unsafe fn trits(self) -> Self {
        self
    }

    #[inline(always)]
    unsafe fn triple(self) -> Self {
        Self(unsafe { vaddq_u8(vaddq_u8(self.0, self.0), self.0) })
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        unsafe { [vdupq_n_s16(0); 2] }
    }

    #[inline(always)]
    unsafe fn dot([low, high]: Self::Sum, codes: Self, x: Self) -> Self::Sum {
        unsafe {
            let (codes, x) = (vreinterpretq_s8_u8(codes.0), vreinterpretq_s8_u8(x.0));
            [vmlal_s8(low, vget_low_s8(codes), vget_low_s8(x)), vmlal_high_s8(high, codes, x)]
        }
    }

    #[inline(always)]
    unsafe fn unknown(self) -> Self {
        Self(unsafe { unknown(self.0) })
    }

    #[inline(always)]
    unsafe fn add_to(sum: Self::Sum, shift: usize, out: *mut i32) {
        unsafe {
            let shifted = vshlq_s32(widen(sum), vdupq_n_s32(-(shift as i32)));
            vst1q_s32(out, vaddq_s32(vld1q_s32(out), shifted));
        }
    }

    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> i32 {
        unsafe { vaddvq_s32(widen(sum)) }
    }
}
