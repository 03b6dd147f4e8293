//! NEON with the matrix product extension. One token is multiplied as in `dotprod.rs`; for many, `smmla` takes 2 rows
//! and 2 tokens of 8 columns each: twice as many products an instruction.
//!
//! ```text
//! a vector of block b         rows r, r+1, r+2, r+3 of 4 columns
//! the same one of b + 1                                 the next 4
//! zipped by fours             rows r, r+1 of 8 columns; rows r+2, r+3 of 8 columns
//! smmla with tokens t, t+1    [r . t, r . t+1, r+1 . t, r+1 . t+1]
//! ```
//!
//! A last block without a neighbour is zipped with zeros. Sums of tokens beyond the last are dropped.
#![expect(unsafe_code, reason = "vector instructions on raw memory")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::super::table::table;
use super::super::vector::Vector;
use super::dotprod::Dotprod;
use crate::activation::TOKEN_BLOCK;
use crate::packing::LINE;

table!(Dotprod, #[target_feature(enable = "neon,dotprod,i8mm")], panels 4, rows 4, groups 4,
    tile_fn tile, peak_fn peak_of_matrices, products 32);

/// Rows of a piece, a half of a line: its 16 sums of up to 8 tokens stay in registers.
const ROWS: usize = 8;

/// `sum[2 i + j] + codes[8 i ..] . x[8 j ..]`, whose intrinsic is not stable yet.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn smmla(mut sum: int32x4_t, codes: uint8x16_t, x: uint8x16_t) -> int32x4_t {
    // SAFETY: one instruction on registers; the feature is enabled for this function.
    unsafe {
        asm!("smmla {sum:v}.4s, {codes:v}.16b, {x:v}.16b", sum = inout(vreg) sum, codes = in(vreg) codes,
             x = in(vreg) x, options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// See `tile.rs`. Sums of a whole row stay below 2^31 (see `MAX_COLS`).
///
/// # Safety
/// The CPU has the features.
#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn tile(p: &mut TileProduct<'_>) {
    p.check();
    let mut token = 0;
    while token < p.tokens {
        let pairs = match p.tokens - token {
            7.. => 4,
            3.. => 2,
            _ => 1,
        };
        for rows in 0..p.groups() * LINE / 4 / ROWS {
            // SAFETY: these rows and the first of these tokens lie in the product, which was checked.
            unsafe {
                match pairs {
                    4 => piece::<4>(p, rows, token),
                    2 => piece::<2>(p, rows, token),
                    _ => piece::<1>(p, rows, token),
                }
            }
        }
        token += 2 * pairs;
    }
}

/// Rows `8 rows ..` and `P` pairs of tokens from `token` on, or as many as there are.
///
/// # Safety
/// As [`tile`]; the rows and the first token lie in the product.
#[inline(always)]
unsafe fn piece<const P: usize>(p: &mut TileProduct<'_>, rows: usize, token: usize) {
    // SAFETY: by the caller's contract, and since tokens are the last one at most, all of this lies in the product.
    unsafe {
        let mut x = [p.x.as_ptr(); P];
        for pair in 0..P {
            // Pairs beyond the last token are any, and dropped at the end.
            let token = (token + 2 * pair).min((p.tokens - 1) / 2 * 2);
            x[pair] = x[pair].add(token / TOKEN_BLOCK * p.x_stride + token % TOKEN_BLOCK * 4);
        }
        let codes = p.tile.as_ptr().add(rows / 2 * p.blocks * LINE + rows % 2 * LINE / 2);
        let mut sums = [[vdupq_n_s32(0); 4]; P];
        for block in (0..p.blocks - p.blocks % 2).step_by(2) {
            let at = codes.add(block * LINE);
            let next = [vld1q_u8(at.add(LINE)), vld1q_u8(at.add(LINE + 16))];
            let codes = eight_rows([vld1q_u8(at), vld1q_u8(at.add(16))], next);
            for pair in 0..P {
                let next = two_tokens(x[pair], block + 1);
                add(&mut sums[pair], codes, eight_columns(two_tokens(x[pair], block), next));
            }
        }
        if !p.blocks.is_multiple_of(2) {
            let block = p.blocks - 1;
            let at = codes.add(block * LINE);
            let codes = eight_rows([vld1q_u8(at), vld1q_u8(at.add(16))], [vdupq_n_u8(0); 2]);
            for pair in 0..P {
                add(&mut sums[pair], codes, eight_columns(two_tokens(x[pair], block), vdup_n_u32(0)));
            }
        }
        for pair in 0..P {
            let [a, b, c, d] = sums[pair];
            let first = [vuzp1q_s32(a, b), vuzp1q_s32(c, d)];
            let second = [vuzp2q_s32(a, b), vuzp2q_s32(c, d)];
            for (i, sums) in [first, second].into_iter().enumerate() {
                let token = token + 2 * pair + i;
                if token < p.tokens {
                    let out = p.sums(token, rows * ROWS, ROWS, 0);
                    Dotprod::add_to(sums[0], 0, out);
                    Dotprod::add_to(sums[1], 0, out.add(4));
                }
            }
        }
    }
}

/// Four columns of two tokens that lie side by side.
#[inline(always)]
unsafe fn two_tokens(x: *const i8, block: usize) -> uint32x2_t {
    unsafe { vld1_u32(x.add(4 * TOKEN_BLOCK * block).cast()) }
}

/// Twice four columns of two tokens to eight columns of each.
#[inline(always)]
unsafe fn eight_columns(block: uint32x2_t, next: uint32x2_t) -> uint8x16_t {
    unsafe { vreinterpretq_u8_u32(vcombine_u32(vzip1_u32(block, next), vzip2_u32(block, next))) }
}

/// Two vectors of a block and of the next one to four pairs of rows.
#[inline(always)]
unsafe fn eight_rows(block: [uint8x16_t; 2], next: [uint8x16_t; 2]) -> [uint8x16_t; 4] {
    unsafe {
        let [a, b] = block.map(|codes| vreinterpretq_u32_u8(codes));
        let [c, d] = next.map(|codes| vreinterpretq_u32_u8(codes));
        [vzip1q_u32(a, c), vzip2q_u32(a, c), vzip1q_u32(b, d), vzip2q_u32(b, d)]
            .map(|rows| vreinterpretq_u8_u32(rows))
    }
}

/// Adds the products of four pairs of rows and a pair of tokens.
#[inline(always)]
unsafe fn add(sums: &mut [int32x4_t; 4], codes: [uint8x16_t; 4], x: uint8x16_t) {
    for i in 0..4 {
        sums[i] = unsafe { smmla(sums[i], codes[i], x) };
    }
}

/// See `peak.rs`.
///
/// # Safety
/// The CPU has the features.
#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn peak_of_matrices(steps: usize) -> i32 {
    unsafe { peak::steps_of::<Dotprod>(steps, |sum, codes, x| smmla(sum, codes.0, x.0)) }
}
