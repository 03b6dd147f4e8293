//! Many tokens with a tile of unpacked codes: the product of prefill, which waits for the multipliers.
//!
//! A tile is groups of 16 rows; block `b` of a group holds columns `4 b .. 4 b + 4`, byte `4 r + c` the code `t` of row
//! `r`, column `4 b + c`. It is unpacked once for all tokens. `R` vectors of rows meet `T` tokens at a time, whose
//! `R * T` sums fill the registers; each vector of codes is then loaded once for `T` products, each four activations
//! once for `R`.
#![expect(unsafe_code, reason = "vector instructions on raw memory")]

use bitnet_core::prefetch;

use super::LANES;
use super::vector::Vector;
use crate::activation::TOKEN_BLOCK;
use crate::packing::LINE;

/// A product of a tile: `out[t * out_stride + row] += t_row . x_t`, or `=` where it is the first of a sum.
pub(super) struct TileProduct<'a> {
    /// `[group][block][64]`.
    pub(super) tile: &'a [u8],
    /// Columns of the tile over 4.
    pub(super) blocks: usize,
    /// Activations in blocks of tokens, `[token block][column / 4][token][4]`, from the first column of the tile on.
    pub(super) x: &'a [i8],
    /// From one block of tokens to the next.
    pub(super) x_stride: usize,
    pub(super) tokens: usize,
    /// Whether what `out` holds means nothing.
    pub(super) is_first: bool,
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
        let token_blocks = self.tokens.div_ceil(TOKEN_BLOCK);
        assert!(self.x.len() >= (token_blocks - 1) * self.x_stride + 4 * TOKEN_BLOCK * self.blocks);
        // Results of tokens beyond the last, up to a block, are written and meant for nobody.
        assert!(self.out.len() >= token_blocks * TOKEN_BLOCK * self.out_stride);
    }

    /// Where the `rows` sums of a token from `row` on lie, from block `block` on: set to 0 in front of the first.
    ///
    /// # Safety
    /// Token and rows lie in the product.
    #[inline(always)]
    pub(super) unsafe fn sums(&mut self, token: usize, row: usize, rows: usize, block: usize) -> *mut i32 {
        // SAFETY: the caller's contract.
        unsafe {
            let sums = self.out.as_mut_ptr().add(token * self.out_stride + row);
            if self.is_first && block == 0 {
                sums.write_bytes(0, rows);
            }
            sums
        }
    }
}

/// The product in pieces of `R` vectors and `T` tokens; the last tokens in fours where that takes fewer.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn tile<V: Vector, const R: usize, const T: usize>(p: &mut TileProduct<'_>) {
    // Neither pieces nor the fours behind them reach into the next block.
    const { assert!(matches!(T, 4 | 6 | TOKEN_BLOCK)) };
    p.check();
    let vectors = p.groups() * V::PARTS;
    let mut vector = 0;
    while vector < vectors {
        let is_wide = vectors - vector >= R;
        let mut token = 0;
        while token < p.tokens {
            let is_long = (p.tokens - token).next_multiple_of(4) >= T;
            // SAFETY: vectors and tokens lie in the product, which was checked.
            unsafe {
                match (is_wide, is_long) {
                    (true, true) => piece::<V, R, T>(p, vector, token),
                    (true, false) => piece::<V, R, 4>(p, vector, token),
                    (false, true) => piece::<V, 1, T>(p, vector, token),
                    (false, false) => piece::<V, 1, 4>(p, vector, token),
                }
            }
            token += if is_long { T } else { 4 };
        }
        vector += if is_wide { R } else { 1 };
    }
}

/// # Safety
/// As [`tile`]; `R` vectors from `vector` and `T` tokens from `token` lie in the product, the tokens in one block.
#[inline(always)]
unsafe fn piece<V: Vector, const R: usize, const T: usize>(
    p: &mut TileProduct<'_>,
    vector: usize,
    token: usize,
) {
    let mut starts = [p.tile.as_ptr(); R];
    for r in 0..R {
        let (group, part) = ((vector + r) / V::PARTS, (vector + r) % V::PARTS);
        starts[r] = p.tile.as_ptr().wrapping_add(group * p.blocks * LINE + part * V::BYTES);
    }
    let x_block = p.x[token / TOKEN_BLOCK * p.x_stride..].as_ptr();
    let x = x_block.wrapping_add(token % TOKEN_BLOCK * 4);
    // What comes next, the codes aside, which stay in the first-level cache: the sums of the next piece, and this piece's
    // share of the next block of tokens.
    let next_sums = p.out.as_ptr().wrapping_add((token + T) * p.out_stride).cast::<u8>();
    let next_x = x_block.wrapping_add(p.x_stride + token % TOKEN_BLOCK * 4 * p.blocks);
    for first in (0..p.blocks).step_by(V::MAX_STEPS) {
        // SAFETY: by the caller's contract all of this lies in the product.
        unsafe {
            let mut sums = [[V::zero(); T]; R];
            for block in first..p.blocks.min(first + V::MAX_STEPS) {
                let mut codes = [V::load(starts[0].add(block * LINE)); R];
                for r in 1..R {
                    codes[r] = V::load(starts[r].add(block * LINE));
                }
                prefetch::near(next_x.wrapping_add(block * T * 4));
                prefetch::near(next_sums.wrapping_add(block * prefetch::LINE / 2));
                for t in 0..T {
                    let x4 = V::repeat(x.add((block * TOKEN_BLOCK + t) * 4));
                    for r in 0..R {
                        sums[r][t] = V::dot(sums[r][t], codes[r], x4);
                    }
                }
            }
            for r in 0..R {
                let row = (vector + r) * V::BYTES / 4;
                for t in 0..T {
                    V::add_to(sums[r][t], 0, p.sums(token + t, row, V::BYTES / 4, first));
                }
            }
        }
    }
}
