//! AVX-512 VNNI: `vpdpbusd` multiplies 64 unsigned bytes with 64 activations and adds fours of them to 32-bit sums.
//!
//! The codes are not shifted down: lane `i` is masked where it lies, so its sum comes out multiplied by `4^i` and is
//! shifted back once at the end. `64 * 2 * 128 * cols` stays below 2^31 up to 131,071 columns; longer rows go in
//! segments.
#![expect(unsafe_code, reason = "vector loads")]

use std::arch::x86_64::{
    __m512i, __mmask64, _mm512_and_si512, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_maskz_loadu_epi8,
    _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_setzero_si512,
};

use super::super::TOKEN_GROUP;
use crate::ternary::CODES_PER_BYTE;

/// Columns per vector.
const WIDTH: usize = 64;
/// Columns per segment: a multiple of the width below the overflow of lane 3.
const SEGMENT: usize = 1 << 16;

/// `reference::dot1`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(in crate::kernel) fn dot1(packed: &[u8], x: &[i8]) -> [i32; CODES_PER_BYTE] {
    let [dot] = dot(packed, [x]);
    dot
}

/// `reference::dot4`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(in crate::kernel) fn dot4(
    packed: &[u8],
    x: [&[i8]; TOKEN_GROUP],
) -> [[i32; CODES_PER_BYTE]; TOKEN_GROUP] {
    dot(packed, x)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot<const T: usize>(packed: &[u8], x: [&[i8]; T]) -> [[i32; CODES_PER_BYTE]; T] {
    assert!(x.iter().all(|x| x.len() == packed.len()), "one activation per column");
    let mut dots = [[0; CODES_PER_BYTE]; T];
    for start in (0..packed.len()).step_by(SEGMENT) {
        let end = (start + SEGMENT).min(packed.len());
        let sums = segment(&packed[start..end], x.map(|x| &x[start..end]));
        for t in 0..T {
            for i in 0..CODES_PER_BYTE {
                dots[t][i] += _mm512_reduce_add_epi32(sums[t][i]) >> (2 * i);
            }
        }
    }
    dots
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn segment<const T: usize>(packed: &[u8], x: [&[i8]; T]) -> [[__m512i; CODES_PER_BYTE]; T] {
    let mut sums = [[_mm512_setzero_si512(); CODES_PER_BYTE]; T];
    let vectors = packed.len() / WIDTH;
    for vector in 0..vectors {
        let at = vector * WIDTH..(vector + 1) * WIDTH;
        let bytes = load(&packed[at.clone()]);
        let x = x.map(|x| load(bytemuck::cast_slice(&x[at.clone()])));
        accumulate(&mut sums, bytes, x);
    }
    let tail = vectors * WIDTH;
    if tail < packed.len() {
        let bytes = load_tail(&packed[tail..]);
        let x = x.map(|x| load_tail(bytemuck::cast_slice(&x[tail..])));
        accumulate(&mut sums, bytes, x);
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn accumulate<const T: usize>(sums: &mut [[__m512i; CODES_PER_BYTE]; T], bytes: __m512i, x: [__m512i; T]) {
    for i in 0..CODES_PER_BYTE {
        let codes = _mm512_and_si512(bytes, _mm512_set1_epi8((3_u8 << (2 * i)).cast_signed()));
        for t in 0..T {
            sums[t][i] = _mm512_dpbusd_epi32(sums[t][i], codes, x[t]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(bytes: &[u8]) -> __m512i {
    assert!(bytes.len() == WIDTH);
    // SAFETY: the slice has 64 bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// The first bytes of a vector, zeros behind them: zero codes add nothing.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_tail(bytes: &[u8]) -> __m512i {
    assert!(bytes.len() < WIDTH);
    let mask: __mmask64 = (1 << bytes.len()) - 1;
    // SAFETY: masked elements are not read; the others lie in the slice.
    unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr().cast()) }
}
