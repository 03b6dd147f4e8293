//! NEON with the dot product extension: `sdot` multiplies 16 codes with 16 activations and adds fours of them to
//! 32-bit sums. The intrinsic is not stable yet; one line of assembly stands in for it.
#![expect(unsafe_code, reason = "vector loads and one instruction in assembly")]

use std::arch::aarch64::{
    int8x16_t, int32x4_t, uint8x16_t, vaddvq_s32, vandq_u8, vdupq_n_s32, vdupq_n_u8, vld1q_s8, vld1q_u8,
    vreinterpretq_s8_u8, vshrq_n_u8,
};
use std::arch::asm;

use super::super::{TOKEN_GROUP, reference};
use crate::ternary::CODES_PER_BYTE;

/// Columns per vector.
const WIDTH: usize = 16;

/// `reference::dot1`.
#[target_feature(enable = "neon,dotprod")]
pub(in crate::kernel) fn dot1(packed: &[u8], x: &[i8]) -> [i32; CODES_PER_BYTE] {
    let [dot] = dot(packed, [x]);
    dot
}

/// `reference::dot4`.
#[target_feature(enable = "neon,dotprod")]
pub(in crate::kernel) fn dot4(
    packed: &[u8],
    x: [&[i8]; TOKEN_GROUP],
) -> [[i32; CODES_PER_BYTE]; TOKEN_GROUP] {
    dot(packed, x)
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot<const T: usize>(packed: &[u8], x: [&[i8]; T]) -> [[i32; CODES_PER_BYTE]; T] {
    assert!(x.iter().all(|x| x.len() == packed.len()), "one activation per column");
    let mut sums = [[vdupq_n_s32(0); CODES_PER_BYTE]; T];
    let vectors = packed.len() / WIDTH;
    for vector in 0..vectors {
        let at = vector * WIDTH..(vector + 1) * WIDTH;
        let codes = unpack(&packed[at.clone()]);
        for t in 0..T {
            let x = load(&x[t][at.clone()]);
            for i in 0..CODES_PER_BYTE {
                sums[t][i] = sdot(sums[t][i], codes[i], x);
            }
        }
    }
    let tail = vectors * WIDTH;
    std::array::from_fn(|t| {
        let rest = reference::dot1(&packed[tail..], &x[t][tail..]);
        std::array::from_fn(|i| vaddvq_s32(sums[t][i]) + rest[i])
    })
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn unpack(packed: &[u8]) -> [int8x16_t; CODES_PER_BYTE] {
    assert!(packed.len() == WIDTH);
    // SAFETY: the slice has 16 bytes.
    let bytes: uint8x16_t = unsafe { vld1q_u8(packed.as_ptr()) };
    let mask = vdupq_n_u8(3);
    [
        vandq_u8(bytes, mask),
        vandq_u8(vshrq_n_u8::<2>(bytes), mask),
        vandq_u8(vshrq_n_u8::<4>(bytes), mask),
        vshrq_n_u8::<6>(bytes),
    ]
    .map(|codes| vreinterpretq_s8_u8(codes))
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn load(x: &[i8]) -> int8x16_t {
    assert!(x.len() == WIDTH);
    // SAFETY: the slice has 16 bytes.
    unsafe { vld1q_s8(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: one instruction on registers; the feature is enabled for this function.
    unsafe {
        asm!("sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b", sum = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b,
             options(pure, nomem, nostack, preserves_flags));
    }
    sum
}
