//! Few tokens with rows of codes in planes of bits: the first looks at the head (see [`crate::compact_rows`]).
//!
//! A block of a row holds 512 columns. In a plane of one bit it has one line: column `64 g + b` is bit `g` of byte `b`. In
//! a plane of three bits it has three: the low two bits of the column lie in byte `b` of line `g / 4`, at `2 (g mod 4)`,
//! the high bit in the third line, as in a plane of one. Activations are bytes; those of 16 bits are two vectors of them.
#![expect(unsafe_code, reason = "vector instructions on raw memory")]

use bitnet_core::prefetch;

use super::vector::Vector;
use super::{FAR, NEAR};
use crate::packing::LINE;

/// Runs of 64 columns of a block.
pub(crate) const GROUPS: usize = 8;
/// A code that is a bit counts 4: where it lies in a code of three bits.
pub(crate) const BIT: i32 = 4;
/// Vectors of activations whose products with planes of three bits are computed together.
pub(crate) const TOGETHER: usize = 8;

/// `out[vector][row] = sum of code * x` for neighbouring rows, in planes of `BITS` bits: 3 or, times [`BIT`], 1. Codes are
/// unpacked once for all `N` vectors, which are padded with zeros to whole blocks.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn planes<V: Vector, const BITS: usize, const N: usize>(
    data: &[u8],
    row_bytes: usize,
    x: &[&[i8]; N],
    out: &mut [&mut [i32]; N],
) {
    const { assert!(BITS == 1 || BITS == 3) };
    // Sums of a vector that take turns: one alone would wait for its own additions where few others are added meanwhile,
    // or would overflow.
    let turns = const {
        if N <= 2 {
            4
        } else if V::MAX_OCTAL_STEPS >= GROUPS * V::PARTS {
            1
        } else {
            2
        }
    };
    const { assert!(V::MAX_OCTAL_STEPS >= GROUPS / 2 * V::PARTS) };
    let segment = V::MAX_OCTAL_STEPS / (GROUPS / turns * V::PARTS);
    let block_bytes = BITS * LINE;
    let blocks = row_bytes / block_bytes;
    assert_eq!(row_bytes, blocks * block_bytes);
    let starts = x.map(|x| {
        assert!(x.len() >= blocks * GROUPS * LINE, "a vector has the columns of a row");
        x.as_ptr()
    });
    for (index, row) in data.chunks_exact(row_bytes).enumerate() {
        let mut totals = [0; N];
        for first in (0..blocks).step_by(segment) {
            // SAFETY: the row has its blocks, the vectors their columns; prefetches are harmless.
            unsafe {
                let mut sums = [[V::zero(); 4]; N];
                for block in first..blocks.min(first + segment) {
                    for part in 0..V::PARTS {
                        let at = row.as_ptr().add(block * block_bytes + part * V::BYTES);
                        let mut lines = [V::load(at); BITS];
                        for line in 0..BITS {
                            let at = at.add(line * LINE);
                            // Rows of bits are read here and there, and asked for by who knows where.
                            if BITS == 3 {
                                prefetch::near(at.wrapping_add(NEAR));
                                prefetch::far(at.wrapping_add(FAR));
                            }
                            lines[line] = V::load(at);
                        }
                        for group in 0..GROUPS {
                            let bit = lines[BITS - 1].bit(group);
                            let codes =
                                if BITS == 1 { bit } else { lines[group / 4].low_pair(group % 4).or(bit) };
                            let column = (block * GROUPS + group) * LINE + part * V::BYTES;
                            for vector in 0..N {
                                let x = V::load(starts[vector].add(column).cast());
                                let sum = &mut sums[vector][group % turns];
                                *sum = V::dot(*sum, codes, x);
                            }
                        }
                    }
                }
                for vector in 0..N {
                    totals[vector] +=
                        if turns == 1 { V::total(sums[vector][0]) } else { V::total_of(sums[vector]) };
                }
            }
        }
        for vector in 0..N {
            out[vector][index] = totals[vector];
        }
    }
}
