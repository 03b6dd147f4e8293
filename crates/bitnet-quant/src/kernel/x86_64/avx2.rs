//! AVX2: `vpmaddubsw` multiplies 32 codes with 32 activations and adds neighbours to 16-bit sums of at most 512,
//! of which 32 fit before they are widened.
#![expect(unsafe_code, reason = "vector loads")]

use std::arch::x86_64::{
    __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_shuffle_epi32, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_and_si256, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_setzero_si256,
    _mm256_srli_epi16,
};

use super::super::{TOKEN_GROUP, reference};
use crate::ternary::CODES_PER_BYTE;

/// Columns per vector.
const WIDTH: usize = 32;
/// Vectors whose 16-bit sums cannot overflow: 32 x 512 = 16384.
const BLOCK: usize = 32;

/// `reference::dot1`.
#[target_feature(enable = "avx2")]
pub(in crate::kernel) fn dot1(packed: &[u8], x: &[i8]) -> [i32; CODES_PER_BYTE] {
    let [dot] = dot::<1>(packed, [x]);
    dot
}

/// `reference::dot4`.
#[target_feature(enable = "avx2")]
pub(in crate::kernel) fn dot4(
    packed: &[u8],
    x: [&[i8]; TOKEN_GROUP],
) -> [[i32; CODES_PER_BYTE]; TOKEN_GROUP] {
    // Four tokens would need 16 accumulators of 16 bits and 16 of 32; two at a time fit the 16 registers better.
    let [a, b] = dot::<2>(packed, [x[0], x[1]]);
    let [c, d] = dot::<2>(packed, [x[2], x[3]]);
    [a, b, c, d]
}

#[inline]
#[target_feature(enable = "avx2")]
fn dot<const T: usize>(packed: &[u8], x: [&[i8]; T]) -> [[i32; CODES_PER_BYTE]; T] {
    let vectors = packed.len() / WIDTH;
    assert!(x.iter().all(|x| x.len() == packed.len()), "one activation per column");
    let mask = _mm256_set1_epi8(3);
    let ones = _mm256_set1_epi16(1);
    let mut wide = [[_mm256_setzero_si256(); CODES_PER_BYTE]; T];
    let mut start = 0;
    while start < vectors {
        let end = (start + BLOCK).min(vectors);
        let mut narrow = [[_mm256_setzero_si256(); CODES_PER_BYTE]; T];
        for vector in start..end {
            let bytes = load(packed, vector);
            // Shifts move bits across bytes; the mask drops them.
            let codes = [
                _mm256_and_si256(bytes, mask),
                _mm256_and_si256(_mm256_srli_epi16::<2>(bytes), mask),
                _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask),
                _mm256_and_si256(_mm256_srli_epi16::<6>(bytes), mask),
            ];
            for t in 0..T {
                let x = load(bytemuck::cast_slice(x[t]), vector);
                for i in 0..CODES_PER_BYTE {
                    narrow[t][i] = _mm256_add_epi16(narrow[t][i], _mm256_maddubs_epi16(codes[i], x));
                }
            }
        }
        for t in 0..T {
            for i in 0..CODES_PER_BYTE {
                wide[t][i] = _mm256_add_epi32(wide[t][i], _mm256_madd_epi16(narrow[t][i], ones));
            }
        }
        start = end;
    }
    let tail = vectors * WIDTH;
    std::array::from_fn(|t| {
        let rest = reference::dot1(&packed[tail..], &x[t][tail..]);
        std::array::from_fn(|i| sum(wide[t][i]) + rest[i])
    })
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8], vector: usize) -> __m256i {
    let bytes = &bytes[vector * WIDTH..][..WIDTH];
    // SAFETY: the slice has 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum(v: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
}
