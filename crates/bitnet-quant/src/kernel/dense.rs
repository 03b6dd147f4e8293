//! One token with panels: the product of decoding, which reads every weight once and waits for memory.
//!
//! A panel is `16 * digits` rows. Block `b` of it, one line, holds columns `4 b .. 4 b + 4`: byte `4 r + c` has row
//! `16 d + r`, column `4 b + c` as its digit `d`. Four activations, repeated over a vector, meet 16 rows at once, and
//! the sums of a row stay in one element of a register.
//!
//! ```text
//! for each block b:                      two bits                          base 3
//!     x4 = x[4b .. 4b+4] repeated        for d in 0..4:                    v = line
//!                                            s_d += (line >> 2d & 3) . x4  for k in 0..=5:
//!                                                                              s_k += v . x4
//!                                                                              v = 3 v mod 256
//! at the end:                            t . x = s_d                       t_k . x = (3 s_k - s_(k+1)) / 256
//! ```
//!
//! Base 3 never takes a digit out. With `v_(k+1) = 3 v_k - 256 t_k`, the sum over columns of `t_k x` is a combination
//! of the sums of `v_k x`, exactly; 64 bytes take 10 additions and 6 products of bytes for 320 weights.
#![expect(unsafe_code, reason = "vector instructions on raw memory")]

use bitnet_core::prefetch;

use super::vector::Vector;
use super::{BASE3_STEPS, FAR, LANES, NEAR};
use crate::packing::LINE;

/// Blocks between two visits of the same sums, where a line is several vectors: 8 KiB stay in the first-level cache.
const BLOCKS_AT_ONCE: usize = 128;

/// Blocks that are summed before the sums go to memory.
const fn segment<V: Vector>(limit: usize) -> usize {
    if V::PARTS == 1 || limit < BLOCKS_AT_ONCE { limit } else { BLOCKS_AT_ONCE }
}

/// `out[16 d + r] = t . x` for a panel of 64 rows, two bits a code. `panel` is whole lines, `x` four activations each.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn bits2<V: Vector>(panel: &[u8], x: &[i8], out: &mut [i32]) {
    let blocks = panel.len() / LINE;
    assert!(x.len() >= 4 * blocks && out.len() >= 4 * LANES);
    out.fill(0);
    let at = |block: usize, part: usize| panel.as_ptr().wrapping_add(block * LINE + part * V::BYTES);
    let x = x.as_ptr();
    for start in (0..blocks).step_by(segment::<V>(V::MAX_STEPS)) {
        let end = blocks.min(start + segment::<V>(V::MAX_STEPS));
        for part in 0..V::PARTS {
            // SAFETY: block and part lie in the panel, four activations of each block in `x`, the lanes in `out`.
            unsafe {
                // Two sets of sums: one alone would wait for its own additions.
                let mut sums = [[V::zero(); 4]; 2];
                let mut block = start;
                while block < end {
                    // Written out, or the second set is found by an index and both are kept in memory.
                    bits2_step::<V>(&mut sums[0], at(block, part), x.add(4 * block));
                    if block + 1 < end {
                        bits2_step::<V>(&mut sums[1], at(block + 1, part), x.add(4 * block + 4));
                    }
                    block += 2;
                }
                for digit in 0..4 {
                    let lanes = out.as_mut_ptr().add(digit * LANES + part * V::BYTES / 4);
                    V::add_to(sums[0][digit], V::PAIR_SHIFT * digit, lanes);
                    V::add_to(sums[1][digit], V::PAIR_SHIFT * digit, lanes);
                }
            }
        }
    }
}

/// # Safety
/// The CPU has the instruction set of `V`; `at` is a vector of codes, `x` four activations.
#[inline(always)]
unsafe fn bits2_step<V: Vector>(sums: &mut [V::Sum; 4], at: *const u8, x: *const i8) {
    prefetch::near(at.wrapping_add(NEAR));
    prefetch::far(at.wrapping_add(FAR));
    // SAFETY: by the contract.
    unsafe {
        let (line, x4) = (V::load(at), V::repeat(x));
        for digit in 0..4 {
            sums[digit] = V::dot(sums[digit], line.pair(digit), x4);
        }
    }
}

/// [`bits2`] for a panel of 80 rows in base 3; `t . x`, or `(t - 1) . x` where [`Vector::CENTRES_TRITS`].
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn base3<V: Vector>(panel: &[u8], x: &[i8], out: &mut [i32]) {
    let blocks = panel.len() / LINE;
    assert!(x.len() >= 4 * blocks && out.len() >= 5 * LANES);
    out.fill(0);
    let at = |block: usize, part: usize| panel.as_ptr().wrapping_add(block * LINE + part * V::BYTES);
    let x = x.as_ptr();
    for start in (0..blocks).step_by(segment::<V>(BASE3_STEPS)) {
        let end = blocks.min(start + segment::<V>(BASE3_STEPS));
        for part in 0..V::PARTS {
            let mut lanes = [[0; LANES]; 6];
            // SAFETY: block and part lie in the panel, four activations of each block in `x`.
            unsafe {
                let mut sums = [V::zero(); 6];
                for block in start..end {
                    prefetch::near(at(block, part).wrapping_add(NEAR));
                    prefetch::far(at(block, part).wrapping_add(FAR));
                    let x4 = V::repeat(x.add(4 * block));
                    let mut v = V::load(at(block, part)).trits();
                    for k in 0..5 {
                        sums[k] = V::dot(sums[k], v, x4);
                        v = v.triple();
                    }
                    sums[5] = V::dot(sums[5], v, x4);
                }
                for k in 0..6 {
                    V::add_to(sums[k], 0, lanes[k].as_mut_ptr());
                }
            }
            for digit in 0..5 {
                for lane in 0..V::BYTES / 4 {
                    out[digit * LANES + part * V::BYTES / 4 + lane] +=
                        super::digit_sum(lanes[digit][lane], lanes[digit + 1][lane]);
                }
            }
        }
    }
}
