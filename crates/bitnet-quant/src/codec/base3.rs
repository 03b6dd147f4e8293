//! Codecs of five codes a byte, as [`Packing::Base3`] has them.

use super::layout::{Layout, ScalePlace};
use crate::Packing;

/// A zero weight, where a byte has more digits than there are codes.
const ZERO: u8 = 1;

pub(super) const BASE3: Layout = Layout {
    codes: 5,
    bytes: 1,
    is_ragged: true,
    scale: ScalePlace::Absent,
    unpack: |bytes, codes| {
        for (byte, codes) in bytes.iter().zip(codes.chunks_mut(5)) {
            for (digit, code) in codes.iter_mut().enumerate() {
                *code = decode(*byte, digit);
            }
        }
    },
    pack: |codes, bytes| {
        for (byte, codes) in bytes.iter_mut().zip(codes.chunks(5)) {
            let mut digits = [ZERO; 5];
            digits[..codes.len()].copy_from_slice(codes);
            *byte = Packing::Base3.encode(digits);
        }
    },
};

/// Digit `k` of byte `m` lies at: of 32 bytes `32 k + m`, of 16 bytes `160 + 16 k + m`, of 4 bytes, with four digits,
/// `240 + 4 k + m`.
pub(super) const TQ1_0: Layout = Layout {
    codes: 256,
    bytes: 54,
    is_ragged: false,
    scale: ScalePlace::Block(52),
    unpack: |bytes, codes| {
        for (block, codes) in bytes.as_chunks::<54>().0.iter().zip(codes.as_chunks_mut::<256>().0) {
            unpack_strided::<32>(&block[..32], &mut codes[..160]);
            unpack_strided::<16>(&block[32..48], &mut codes[160..240]);
            unpack_strided::<4>(&block[48..52], &mut codes[240..]);
            for (m, byte) in block[48..52].iter().enumerate() {
                codes[240 + m] |= no_fifth(Packing::Base3.decode(*byte, 4));
            }
        }
    },
    pack: |codes, bytes| {
        for (codes, block) in codes.as_chunks::<256>().0.iter().zip(bytes.as_chunks_mut::<54>().0) {
            pack_strided::<32>(&codes[..160], &mut block[..32]);
            pack_strided::<16>(&codes[160..240], &mut block[32..48]);
            pack_strided::<4>(&codes[240..], &mut block[48..52]);
        }
    },
};

/// Of each 16 codes, three bytes hold five each, the first as the lowest digit; the four that are left share the last
/// byte.
pub(super) const IQ1_BN: Layout = Layout {
    codes: 64,
    bytes: 13,
    is_ragged: false,
    scale: ScalePlace::RowF16,
    unpack: |bytes, codes| {
        for (block, codes) in bytes.as_chunks::<13>().0.iter().zip(codes.as_chunks_mut::<64>().0) {
            for (i, codes) in codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                for (byte, codes) in block[3 * i..].iter().zip(codes.as_chunks_mut::<5>().0) {
                    *codes = std::array::from_fn(|j| decode(*byte, 4 - j));
                }
                codes[15] = decode(block[12], 4 - i) | no_fifth(Packing::Base3.decode(block[12], 0));
            }
        }
    },
    pack: |codes, bytes| {
        for (codes, block) in codes.as_chunks::<64>().0.iter().zip(bytes.as_chunks_mut::<13>().0) {
            for (i, codes) in codes.as_chunks::<16>().0.iter().enumerate() {
                for (byte, &[a, b, c, d, e]) in block[3 * i..].iter_mut().zip(codes.as_chunks::<5>().0) {
                    *byte = Packing::Base3.encode([e, d, c, b, a]);
                }
            }
            block[12] = Packing::Base3.encode([0, codes[63], codes[47], codes[31], codes[15]]);
        }
    },
};

/// One digit of a byte; 3 of a byte that no digits encode to: of `byte = ceil(256 n / 243)`, `243 byte mod 256` is less
/// than 243, of the other thirteen it is not.
#[inline(always)]
fn decode(byte: u8, digit: usize) -> u8 {
    let is_code = byte.wrapping_mul(243) < 243;
    Packing::Base3.decode(byte, digit) | if is_code { 0 } else { 3 }
}

/// 3 when a byte of four codes has a fifth.
fn no_fifth(digit: u8) -> u8 {
    if digit == 0 { 0 } else { 3 }
}

/// `codes[digit * STRIDE + i]` are the digits of `bytes[i]`, as many as there is room for.
#[inline(always)]
fn unpack_strided<const STRIDE: usize>(bytes: &[u8], codes: &mut [u8]) {
    let Some(bytes) = bytes.first_chunk::<STRIDE>() else { return };
    for (digit, codes) in codes.as_chunks_mut::<STRIDE>().0.iter_mut().enumerate() {
        for i in 0..STRIDE {
            codes[i] = decode(bytes[i], digit);
        }
    }
}

/// The other way; digits that are not there are 0.
#[inline(always)]
fn pack_strided<const STRIDE: usize>(codes: &[u8], bytes: &mut [u8]) {
    let codes = codes.as_chunks::<STRIDE>().0;
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte =
            Packing::Base3.encode(std::array::from_fn(|digit| codes.get(digit).map_or(0, |codes| codes[i])));
    }
}
