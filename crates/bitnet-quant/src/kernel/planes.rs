//! Few tokens with rows of codes in planes of bits: the first looks at the head (see [`crate::compact_rows`]).
//!
//! A block of a row holds 512 columns. In a plane of one bit it has one line: column `64 g + b` is bit `g` of byte `b`. In
//! a plane of three bits it has three: the low two bits of the column lie in byte `b` of line `g / 4`, at `2 (g mod 4)`,
//! the high bit in the third line, as in a plane of one. Activations have 16 bits, as a high and a low byte that are
//! multiplied apart: `x = 256 high + low`.
#![expect(unsafe_code, reason = "vector instructions on raw memory")]

use bitnet_core::prefetch;

use super::vector::Vector;
use super::{FAR, NEAR};
use crate::packing::LINE;

/// Runs of 64 columns of a block.
pub(crate) const GROUPS: usize = 8;
/// A code that is a bit counts 4: where it lies in a code of three bits.
pub(crate) const BIT: i64 = 4;
/// Tokens whose products with planes of three bits are computed together.
pub(crate) const TOGETHER: usize = 4;

/// The activations of a token: their high bytes and their low ones, padded with zeros to whole blocks.
pub(crate) type Halves<'a> = [&'a [i8]; 2];

/// `out[row][token] = sum of code * (256 high + low)` for neighbouring rows, in planes of `BITS` bits: 3 or, times
/// [`BIT`], 1. Codes are unpacked once for all tokens.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn planes<V: Vector, const BITS: usize, const TOKENS: usize>(
    data: &[u8],
    row_bytes: usize,
    tokens: &[Halves<'_>; TOKENS],
    out: &mut [[i64; TOKENS]],
) {
    const { assert!(BITS == 1 || BITS == 3) };
    // Sums of a byte of activations that take turns: one alone would wait for its own additions where no other token is
    // there to be added meanwhile, or would overflow.
    let turns = const { if TOKENS > 1 && V::MAX_OCTAL_STEPS >= GROUPS * V::PARTS { 1 } else { 2 } };
    const { assert!(V::MAX_OCTAL_STEPS >= GROUPS / 2 * V::PARTS) };
    let segment = V::MAX_OCTAL_STEPS / (GROUPS / turns * V::PARTS);
    let block_bytes = BITS * LINE;
    let blocks = row_bytes / block_bytes;
    assert!(row_bytes == blocks * block_bytes && data.len() == out.len() * row_bytes);
    let mut starts = [[std::ptr::null(); 2]; TOKENS];
    for token in 0..TOKENS {
        for half in 0..2 {
            assert!(tokens[token][half].len() >= blocks * GROUPS * LINE);
            starts[token][half] = tokens[token][half].as_ptr();
        }
    }
    for (row, out) in data.chunks_exact(row_bytes).zip(out) {
        *out = [0; TOKENS];
        for first in (0..blocks).step_by(segment) {
            // SAFETY: the row has its blocks, the activations their columns; prefetches are harmless.
            unsafe {
                let mut sums = [[[V::zero(); 2]; TOKENS]; 2];
                for block in first..blocks.min(first + segment) {
                    for part in 0..V::PARTS {
                        let at = row.as_ptr().add(block * block_bytes + part * V::BYTES);
                        let mut lines = [V::load(at); BITS];
                        for line in 0..BITS {
                            let at = at.add(line * LINE);
                            prefetch::near(at.wrapping_add(NEAR));
                            prefetch::far(at.wrapping_add(FAR));
                            lines[line] = V::load(at);
                        }
                        for group in 0..GROUPS {
                            let bit = lines[BITS - 1].bit(group);
                            let codes =
                                if BITS == 1 { bit } else { lines[group / 4].low_pair(group % 4).or(bit) };
                            let x = (block * GROUPS + group) * LINE + part * V::BYTES;
                            let sums = &mut sums[group % turns];
                            for token in 0..TOKENS {
                                for half in 0..2 {
                                    let x = V::load(starts[token][half].add(x).cast());
                                    sums[token][half] = V::dot(sums[token][half], codes, x);
                                }
                            }
                        }
                    }
                }
                for turn in 0..turns {
                    for token in 0..TOKENS {
                        let [high, low] = sums[turn][token];
                        out[token] += 256 * i64::from(V::total(high)) + i64::from(V::total(low));
                    }
                }
            }
        }
    }
}
