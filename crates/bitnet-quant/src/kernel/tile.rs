//! Many tokens with a tile of unpacked codes: the product of prefill, which waits for the multipliers.
//!
//! A tile is groups of 16 rows; block `b` of a group holds columns `4 b .. 4 b + 4`, byte `4 r + c` the code `t` of row
//! `r`, column `4 b + c`. It is unpacked once for all tokens. `R` vectors of rows meet `T` tokens at a time, whose
//! `R * T` sums fill the registers; each vector of codes is then loaded once for `T` products, each four activations
//! once for `R`.
#![expect(unsafe_code, reason = "vector instructions on raw memory")]

use super::LANES;
use super::vector::Vector;
use crate::packing::LINE;

/// A product of a tile: `out[t * out_stride + row] += t_row . x_t`.
pub(super) struct TileProduct<'a> {
    /// `[group][block][64]`.
    pub(super) tile: &'a [u8],
    /// Columns of the tile over 4.
    pub(super) blocks: usize,
    /// The activations of the first token from the first column of the tile on, and the distance to the next.
    pub(super) x: &'a [i8],
    pub(super) x_stride: usize,
    pub(super) tokens: usize,
    pub(super) out: &'a mut [i32],
    pub(super) out_stride: usize,
}

impl TileProduct<'_> {
    pub(super) fn groups(&self) -> usize {
        self.tile.len() / (self.blocks * LINE)
    }

    pub(super) fn check(&self) {
        let groups = self.groups();
        assert_eq!(self.tile.len(), groups * self.blocks * LINE);
        assert!(self.tokens > 0 && self.out_stride >= groups * LANES);
        assert!(self.x.len() >= (self.tokens - 1) * self.x_stride + 4 * self.blocks);
        assert!(self.out.len() >= (self.tokens - 1) * self.out_stride + groups * LANES);
    }
}

/// The product in pieces of `R` vectors and `T` tokens, then 4 tokens, then 1.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn tile<V: Vector, const R: usize, const T: usize>(p: &mut TileProduct<'_>) {
    p.check();
    let vectors = p.groups() * V::PARTS;
    let mut token = 0;
    while token < p.tokens {
        let step = match p.tokens - token {
            left if left >= T => T,
            left if left >= 4 => 4,
            _ => 1,
        };
        let mut vector = 0;
        while vector < vectors {
            let width = if vectors - vector >= R { R } else { 1 };
            // SAFETY: vectors and tokens lie in the product, which was checked.
            unsafe {
                match (width == R, step) {
                    (true, 1) => piece::<V, R, 1>(p, vector, token),
                    (true, 4) => piece::<V, R, 4>(p, vector, token),
                    (true, _) => piece::<V, R, T>(p, vector, token),
                    (false, 1) => piece::<V, 1, 1>(p, vector, token),
                    (false, 4) => piece::<V, 1, 4>(p, vector, token),
                    (false, _) => piece::<V, 1, T>(p, vector, token),
                }
            }
            vector += width;
        }
        token += step;
    }
}

/// # Safety
/// As [`tile`]; `R` vectors from `vector` and `T` tokens from `token` lie in the product.
#[inline(always)]
unsafe fn piece<V: Vector, const R: usize, const T: usize>(
    p: &mut TileProduct<'_>,
    vector: usize,
    token: usize,
) {
    let codes: [*const u8; R] = std::array::from_fn(|r| {
        let (group, part) = ((vector + r) / V::PARTS, (vector + r) % V::PARTS);
        p.tile.as_ptr().wrapping_add(group * p.blocks * LINE + part * V::BYTES)
    });
    let x = p.x.as_ptr().wrapping_add(token * p.x_stride);
    for first in (0..p.blocks).step_by(V::MAX_STEPS) {
        // SAFETY: by the caller's contract all of this lies in the product.
        unsafe {
            let mut sums = [[V::zero(); T]; R];
            for block in first..p.blocks.min(first + V::MAX_STEPS) {
                let codes = codes.map(|codes| V::load(codes.add(block * LINE)));
                for t in 0..T {
                    let x4 = V::repeat(x.add(t * p.x_stride + 4 * block));
                    for r in 0..R {
                        sums[r][t] = V::dot(sums[r][t], codes[r], x4);
                    }
                }
            }
            for r in 0..R {
                let row = (vector + r) * V::BYTES / 4;
                for t in 0..T {
                    V::add_to(sums[r][t], 0, p.out.as_mut_ptr().add((token + t) * p.out_stride + row));
                }
            }
        }
    }
}
