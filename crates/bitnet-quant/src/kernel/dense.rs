//! Few tokens with panels: the product of decoding, which reads every weight once and waits for memory.
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
//! of the sums of `v_k x`, exactly; 64 bytes take 10 additions and 6 products of bytes for 320 weights. Several tokens
//! share all but the products.
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

/// The sums of a token and the rows of a panel: 16 for each digit.
pub(super) type PanelSums = [i32; 5 * LANES];

/// The product of a panel with `N` tokens at once. A type rather than a closure: a closure may be compiled apart from the
/// function that carries the instruction set.
trait PanelProduct<V: Vector> {
    /// `out[token][16 d + r]`, from nothing.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    unsafe fn together<const N: usize>(panel: &[u8], tokens: &[&[i8]; N], out: &mut [PanelSums; N]);
}

/// Two bits a code.
struct Bits2;

/// Base 3.
struct Base3;

/// `out[token][16 d + r] = t . x` for a panel of 64 rows, two bits a code, `N` tokens at a time. `panel` is whole lines, a
/// token four activations for each.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn bits2<V: Vector, const N: usize>(panel: &[u8], tokens: &[&[i8]], out: &mut [PanelSums]) {
    // SAFETY: as the caller's.
    unsafe { in_groups::<V, N, Bits2>(panel, tokens, out) }
}

/// [`bits2`] for a panel of 80 rows in base 3; `t . x`, or `(t - 1) . x` where [`Vector::CENTRES_TRITS`].
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn base3<V: Vector, const N: usize>(panel: &[u8], tokens: &[&[i8]], out: &mut [PanelSums]) {
    // SAFETY: as the caller's.
    unsafe { in_groups::<V, N, Base3>(panel, tokens, out) }
}

/// `N` tokens at a time, and those that are left one by one.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn in_groups<V: Vector, const N: usize, P: PanelProduct<V>>(
    panel: &[u8],
    tokens: &[&[i8]],
    out: &mut [PanelSums],
) {
    assert_eq!(tokens.len(), out.len());
    let ((groups, singles), (group_sums, single_sums)) = (tokens.as_chunks::<N>(), out.as_chunks_mut::<N>());
    // SAFETY: as the caller's.
    unsafe {
        for (group, sums) in groups.iter().zip(group_sums) {
            P::together(panel, group, sums);
        }
        for (token, sums) in singles.iter().zip(single_sums) {
            P::together(panel, std::array::from_ref(token), std::array::from_mut(sums));
        }
    }
}

/// Where the activations of each token begin: four for each of `blocks`.
fn starts<const N: usize>(tokens: &[&[i8]; N], blocks: usize) -> [*const i8; N] {
    tokens.map(|x| {
        assert!(x.len() >= 4 * blocks, "a token has the columns of the panel");
        x.as_ptr()
    })
}

impl<V: Vector> PanelProduct<V> for Bits2 {
    #[inline(always)]
    unsafe fn together<const N: usize>(panel: &[u8], tokens: &[&[i8]; N], out: &mut [PanelSums; N]) {
        let blocks = panel.len() / LINE;
        let x = starts(tokens, blocks);
        *out = [[0; 5 * LANES]; N];
        let at = |block: usize, part: usize| panel.as_ptr().wrapping_add(block * LINE + part * V::BYTES);
        // Two sets of sums for one token: one alone would wait for its own additions. They belong to two parts of a line,
        // which then share what is loaded of the token, or to two lines where a line has no parts.
        let sets = const { if N == 1 { 2 } else { 1 } };
        let parts = const { if N == 1 && V::PARTS > 1 { 2 } else { 1 } };
        let lines = sets / parts;
        for start in (0..blocks).step_by(segment::<V>(V::MAX_STEPS)) {
            let end = blocks.min(start + segment::<V>(V::MAX_STEPS));
            for part in (0..V::PARTS).step_by(parts) {
                // SAFETY: block and part lie in the panel, four activations of each block in `x`, the lanes in `out`.
                unsafe {
                    let mut sums = [[[V::zero(); 4]; N]; 2];
                    for block in (start..end).step_by(lines) {
                        // Written out, or a set is found by an index and both are kept in memory.
                        if part == 0 {
                            ask_ahead(at(block, 0));
                        }
                        bits2_step::<V, N>(&mut sums[0], at(block, part), x, block);
                        if parts == 2 {
                            bits2_step::<V, N>(&mut sums[1], at(block, part + 1), x, block);
                        } else if sets == 2 && block + 1 < end {
                            ask_ahead(at(block + 1, part));
                            bits2_step::<V, N>(&mut sums[1], at(block + 1, part), x, block + 1);
                        }
                    }
                    for token in 0..N {
                        for digit in 0..4 {
                            for set in 0..sets {
                                let first = (part + set % parts) * V::BYTES / 4;
                                let lanes = out[token].as_mut_ptr().add(digit * LANES + first);
                                V::add_to(sums[set][token][digit], V::PAIR_SHIFT * digit, lanes);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Asks for what comes behind a line.
#[inline(always)]
fn ask_ahead(line: *const u8) {
    prefetch::near(line.wrapping_add(NEAR));
    prefetch::far(line.wrapping_add(FAR));
}

/// # Safety
/// The CPU has the instruction set of `V`; `at` is a vector of codes, four activations of the block lie in each of `x`.
#[inline(always)]
unsafe fn bits2_step<V: Vector, const N: usize>(
    sums: &mut [[V::Sum; 4]; N],
    at: *const u8,
    x: [*const i8; N],
    block: usize,
) {
    // SAFETY: by the contract.
    unsafe {
        let line = V::load(at);
        let mut x4 = [V::repeat(x[0].add(4 * block)); N];
        for token in 1..N {
            x4[token] = V::repeat(x[token].add(4 * block));
        }
        for digit in 0..4 {
            let codes = line.pair(digit);
            for token in 0..N {
                sums[token][digit] = V::dot(sums[token][digit], codes, x4[token]);
            }
        }
    }
}

impl<V: Vector> PanelProduct<V> for Base3 {
    #[inline(always)]
    unsafe fn together<const N: usize>(panel: &[u8], tokens: &[&[i8]; N], out: &mut [PanelSums; N]) {
        let blocks = panel.len() / LINE;
        let x = starts(tokens, blocks);
        *out = [[0; 5 * LANES]; N];
        let at = |block: usize, part: usize| panel.as_ptr().wrapping_add(block * LINE + part * V::BYTES);
        for start in (0..blocks).step_by(segment::<V>(BASE3_STEPS)) {
            let end = blocks.min(start + segment::<V>(BASE3_STEPS));
            for part in 0..V::PARTS {
                let mut lanes = [[[0; LANES]; 6]; N];
                // SAFETY: block and part lie in the panel, four activations of each block in `x`.
                unsafe {
                    let mut sums = [[V::zero(); 6]; N];
                    for block in start..end {
                        if part == 0 {
                            ask_ahead(at(block, 0));
                        }
                        let mut x4 = [V::repeat(x[0].add(4 * block)); N];
                        for token in 1..N {
                            x4[token] = V::repeat(x[token].add(4 * block));
                        }
                        let mut v = V::load(at(block, part)).trits();
                        for k in 0..6 {
                            for token in 0..N {
                                sums[token][k] = V::dot(sums[token][k], v, x4[token]);
                            }
                            if k < 5 {
                                v = v.triple();
                            }
                        }
                    }
                    for token in 0..N {
                        for k in 0..6 {
                            V::add_to(sums[token][k], 0, lanes[token][k].as_mut_ptr());
                        }
                    }
                }
                for token in 0..N {
                    for digit in 0..5 {
                        for lane in 0..V::BYTES / 4 {
                            out[token][digit * LANES + part * V::BYTES / 4 + lane] +=
                                super::digit_sum(lanes[token][digit][lane], lanes[token][digit + 1][lane]);
                        }
                    }
                }
            }
        }
    }
}
