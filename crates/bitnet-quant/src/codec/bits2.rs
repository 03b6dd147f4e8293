//! Codecs of two bits a code. A byte holds four codes that lie a stride apart.

use super::layout::{Layout, ScalePlace};

pub(super) const I2_S: Layout = Layout {
    codes: 128,
    bytes: 32,
    is_ragged: false,
    scale: ScalePlace::Tail,
    unpack: |bytes, codes| unpack::<32>(bytes, codes, HIGH_FIRST),
    pack: |codes, bytes| pack::<32>(codes, bytes, HIGH_FIRST),
};

pub(super) const I2_S_ARM: Layout = Layout {
    codes: 64,
    bytes: 16,
    unpack: |bytes, codes| unpack::<16>(bytes, codes, HIGH_FIRST),
    pack: |codes, bytes| pack::<16>(codes, bytes, HIGH_FIRST),
    ..I2_S
};

pub(super) const IQ2_BN: Layout = Layout {
    codes: 64,
    bytes: 16,
    is_ragged: false,
    scale: ScalePlace::RowF32,
    unpack: |bytes, codes| unpack::<16>(bytes, codes, LOW_FIRST),
    pack: |codes, bytes| pack::<16>(codes, bytes, LOW_FIRST),
};

pub(super) const TQ2_0: Layout = Layout {
    codes: 256,
    bytes: 66,
    is_ragged: false,
    scale: ScalePlace::Block(64),
    unpack: |bytes, codes| {
        for (block, codes) in bytes.as_chunks::<66>().0.iter().zip(codes.as_chunks_mut::<256>().0) {
            unpack::<32>(&block[..64], codes, LOW_FIRST);
        }
    },
    pack: |codes, bytes| {
        for (codes, block) in codes.as_chunks::<256>().0.iter().zip(bytes.as_chunks_mut::<66>().0) {
            pack::<32>(codes, &mut block[..64], LOW_FIRST);
        }
    },
};

pub(super) const Q2_0: Layout = Layout {
    codes: 64,
    bytes: 18,
    is_ragged: false,
    scale: ScalePlace::Block(0),
    unpack: |bytes, codes| {
        for (block, codes) in bytes.as_chunks::<18>().0.iter().zip(codes.as_chunks_mut::<64>().0) {
            unpack::<1>(&block[2..], codes, LOW_FIRST);
        }
    },
    pack: |codes, bytes| {
        for (codes, block) in codes.as_chunks::<64>().0.iter().zip(bytes.as_chunks_mut::<18>().0) {
            pack::<1>(codes, &mut block[2..], LOW_FIRST);
        }
    },
};

/// Shifts of the four codes of a byte.
type Shifts = [u32; 4];
const HIGH_FIRST: Shifts = [6, 4, 2, 0];
const LOW_FIRST: Shifts = [0, 2, 4, 6];

#[inline(always)]
fn unpack<const STRIDE: usize>(bytes: &[u8], codes: &mut [u8], shifts: Shifts) {
    let bytes = bytes.as_chunks::<STRIDE>().0.iter();
    for (bytes, codes) in bytes.zip(codes.as_chunks_mut::<STRIDE>().0.as_chunks_mut::<4>().0) {
        for (codes, shift) in codes.iter_mut().zip(shifts) {
            for i in 0..STRIDE {
                codes[i] = bytes[i] >> shift & 3;
            }
        }
    }
}

#[inline(always)]
fn pack<const STRIDE: usize>(codes: &[u8], bytes: &mut [u8], shifts: Shifts) {
    let codes = codes.as_chunks::<STRIDE>().0.as_chunks::<4>().0.iter();
    for (codes, bytes) in codes.zip(bytes.as_chunks_mut::<STRIDE>().0) {
        for i in 0..STRIDE {
            bytes[i] = (0..4).map(|digit| codes[digit][i] << shifts[digit]).sum();
        }
    }
}
