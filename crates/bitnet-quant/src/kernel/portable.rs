//! Plain Rust: what every machine can run, and what the instruction sets are compared with.
#![expect(unsafe_code, reason = "implements the trait of the vector kernels")]

use super::table::table;
use super::vector::Vector;
use crate::activation::TOKEN_BLOCK;
use crate::packing::LINE;

table!(Portable, #[inline], panels 1, rows 1, groups 1, tile_fn tile);

/// See `tile.rs`. In 16 bits, which the compiler makes wider vectors of: sums of products of codes up to 2 stay below 2^15
/// for so many steps.
///
/// # Safety
/// None is needed; the type is that of the other instruction sets.
unsafe fn tile(p: &mut TileProduct<'_>) {
    const STEPS: usize = i16::MAX as usize / (2 * 128);
    p.check();
    let tile = p.tile.as_chunks::<LINE>().0;
    for token in 0..p.tokens {
        let x = &p.x[token / TOKEN_BLOCK * p.x_stride..].as_chunks::<{ 4 * TOKEN_BLOCK }>().0[..p.blocks];
        for (part, x) in x.chunks(STEPS).enumerate() {
            // Four activations of each block, repeated over a line.
            let mut repeated = [[0_i16; LINE]; STEPS];
            for (repeated, x) in repeated.iter_mut().zip(x) {
                *repeated = std::array::from_fn(|i| i16::from(x[token % TOKEN_BLOCK * 4 + i % 4]));
            }
            for group in 0..p.groups() {
                let mut sums = [0_i16; LINE];
                let codes = &tile[group * p.blocks + part * STEPS..];
                for (codes, x) in codes.iter().zip(&repeated[..x.len()]) {
                    add_products(&mut sums, codes, x);
                }
                let out = &mut p.out[token * p.out_stride + group * LINE / 4..][..LINE / 4];
                for (out, sums) in out.iter_mut().zip(sums.as_chunks::<4>().0) {
                    let before = if p.is_first && part == 0 { 0 } else { *out };
                    *out = before + sums.iter().map(|sum| i32::from(*sum)).sum::<i32>();
                }
            }
        }
    }
}

#[inline(always)]
fn add_products(sums: &mut [i16; LINE], codes: &[u8; LINE], x: &[i16; LINE]) {
    for i in 0..LINE {
        // Checks of an overflow, which cannot come, would keep the compiler from vectors.
        sums[i] = sums[i].wrapping_add(i16::from(codes[i]).wrapping_mul(x[i]));
    }
}

#[derive(Clone, Copy)]
pub(super) struct Portable([u8; 16]);

impl Portable {
    #[inline(always)]
    fn map(self, f: impl Fn(u8) -> u8) -> Self {
        Self(self.0.map(f))
    }
}

impl Vector for Portable {
    const BYTES: usize = 16;
    const HAS_WIDE_DOT: bool = true;
    const MAX_STEPS: usize = 1 << 12;
    const MAX_OCTAL_STEPS: usize = 1 << 12;
    const PAIR_SHIFT: usize = 0;
    const CENTRES_TRITS: bool = false;

    /// A sum for every byte: the compiler makes vectors of that.
    type Sum = [i32; 16];

    #[inline(always)]
    unsafe fn load(at: *const u8) -> Self {
        // SAFETY: the caller has 16 bytes there.
        Self(unsafe { at.cast::<[u8; 16]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u8) {
        // SAFETY: the caller has 16 bytes there.
        unsafe { at.cast::<[u8; 16]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn repeat(at: *const i8) -> Self {
        // SAFETY: the caller has 4 bytes there.
        let four = unsafe { at.cast::<[u8; 4]>().read_unaligned() };
        Self(std::array::from_fn(|i| four[i % 4]))
    }

    #[inline(always)]
    unsafe fn pair(self, pair: usize) -> Self {
        self.map(|byte| byte >> (2 * pair) & 3)
    }

    #[inline(always)]
    unsafe fn low_pair(self, pair: usize) -> Self {
        self.map(|byte| byte >> (2 * pair) & 3)
    }

    #[inline(always)]
    unsafe fn bit(self, bit: usize) -> Self {
        self.map(|byte| (byte >> bit & 1) << 2)
    }

    #[inline(always)]
    unsafe fn top_trit(self) -> Self {
        self.map(|byte| ((3 * u16::from(byte)) >> 8) as u8)
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    #[inline(always)]
    unsafe fn trits(self) -> Self {
        self
    }

    #[inline(always)]
    unsafe fn triple(self) -> Self {
        self.map(|byte| byte.wrapping_mul(3))
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        [0; 16]
    }

    #[inline(always)]
    unsafe fn dot(mut sum: Self::Sum, codes: Self, x: Self) -> Self::Sum {
        for i in 0..16 {
            // At most 255 * 128, which 16 bits hold.
            let product = i16::from(codes.0[i]).wrapping_mul(i16::from(x.0[i].cast_signed()));
            sum[i] = sum[i].wrapping_add(i32::from(product));
        }
        sum
    }

    #[inline(always)]
    unsafe fn add_to(sum: Self::Sum, shift: usize, out: *mut i32) {
        for (i, four) in sum.as_chunks::<4>().0.iter().enumerate() {
            // SAFETY: the caller has 4 integers there.
            unsafe { *out.add(i) += four.iter().sum::<i32>() >> shift };
        }
    }

    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> i32 {
        sum.into_iter().sum()
    }

    #[inline(always)]
    unsafe fn interleave(columns: [Self; 4]) -> [Self; 4] {
        std::array::from_fn(|q| Self(std::array::from_fn(|i| columns[i % 4].0[4 * q + i / 4])))
    }
    #[inline(always)]
    unsafe fn transpose(rows: [Self; 4]) -> [Self; 4] {
        std::array::from_fn(|word| Self(std::array::from_fn(|i| rows[i / 4].0[4 * word + i % 4])))
    }

    #[inline(always)]
    unsafe fn store_apart(self, at: *mut u8, _stride: usize) {
        // SAFETY: as the caller's.
        unsafe { self.store(at) }
    }
}
