//! One token with chosen rows: the up projection of a ReLU^2 network, whose row need not be read where the gate is
//! not positive.
//!
//! Every row is contiguous. Line `l` of a row holds `64 * digits` columns: byte `b` has column
//! `64 digits l + 64 d + b` as its digit `d`, so that each digit of a vector meets 64 neighbouring activations.
//! In base 3 each digit meets others, and the identity of `dense.rs` takes two products a digit:
//! `256 t . x = sum over k of 3 v_k x_k - v_(k+1) x_k`.
#![expect(unsafe_code, reason = "vector instructions on raw memory")]

use bitnet_core::prefetch;

use super::vector::Vector;
use crate::packing::LINE;

/// How many groups of rows ahead a row is asked for: for the first-level cache, and from memory.
const NEAR_GROUPS: usize = 4;
const FAR_GROUPS: usize = 8;

/// Products of `N` rows at once. A type rather than a closure: a closure may be compiled apart from the function that
/// carries the instruction set.
trait RowSums<V: Vector, const N: usize> {
    /// `t . x` of the rows that begin at `rows`, `lines` lines each. The same lines of `near` and `far` are asked for
    /// meanwhile; those need not be valid.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; every row has the lines, `x` their columns.
    unsafe fn row_sums(
        rows: [*const u8; N],
        near: [*const u8; N],
        far: [*const u8; N],
        lines: usize,
        x: *const i8,
    ) -> [i32; N];
}

/// Two bits a code.
struct Bits2;

/// Base 3.
struct Base3;

/// `out[i] = t[rows[i]] . x`, two bits a code. `x` is padded with zeros to whole lines of columns. Rows beyond those of
/// `out` are only asked for ahead.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn bits2<V: Vector, const N: usize>(
    data: &[u8],
    row_bytes: usize,
    rows: &[u32],
    x: &[i8],
    out: &mut [i32],
) {
    assert!(row_bytes.is_multiple_of(LINE) && x.len() >= 4 * row_bytes);
    // SAFETY: `x` has the columns of a row.
    unsafe { for_each_group::<V, N, Bits2>(data, row_bytes, rows, x, out) }
}

/// [`bits2`] in base 3; `t . x`, or `(t - 1) . x` where [`Vector::CENTRES_TRITS`].
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn base3<V: Vector, const N: usize>(
    data: &[u8],
    row_bytes: usize,
    rows: &[u32],
    x: &[i8],
    out: &mut [i32],
) {
    assert!(row_bytes.is_multiple_of(LINE) && x.len() >= 5 * row_bytes);
    // SAFETY: `x` has the columns of a row.
    unsafe { for_each_group::<V, N, Base3>(data, row_bytes, rows, x, out) }
}

/// Multiplies groups of rows.
///
/// # Safety
/// The CPU has the instruction set of `V`; `x` has the columns of a row.
#[inline(always)]
unsafe fn for_each_group<V: Vector, const N: usize, K: RowSums<V, N>>(
    data: &[u8],
    row_bytes: usize,
    rows: &[u32],
    x: &[i8],
    out: &mut [i32],
) {
    assert!(rows.len() >= out.len());
    let lines = row_bytes / LINE;
    for start in (0..out.len()).step_by(N) {
        let count = N.min(out.len() - start);
        let mut starts = [data.as_ptr(); N];
        let (mut near, mut far) = (starts, starts);
        for i in 0..N {
            // A last group that is not full takes its last row several times.
            let row = rows[start + i.min(count - 1)] as usize;
            starts[i] = data[row * row_bytes..][..row_bytes].as_ptr();
            near[i] = later::<N>(data, row_bytes, rows, start + NEAR_GROUPS * N + i);
            far[i] = later::<N>(data, row_bytes, rows, start + FAR_GROUPS * N + i);
        }
        // SAFETY: every start has a row behind it.
        let sums = unsafe { K::row_sums(starts, near, far, lines, x.as_ptr()) };
        out[start..start + count].copy_from_slice(&sums[..count]);
    }
}

/// Where a later row of the list begins; the last one beyond its end.
#[inline(always)]
fn later<const N: usize>(data: &[u8], row_bytes: usize, rows: &[u32], index: usize) -> *const u8 {
    data.as_ptr().wrapping_add(rows[index.min(rows.len() - 1)] as usize * row_bytes)
}

/// The same place of each row.
///
/// # Safety
/// The CPU has the instruction set of `V`, each row a vector at `at`.
#[inline(always)]
unsafe fn load_each<V: Vector, const N: usize>(rows: [*const u8; N], at: usize) -> [V; N] {
    // SAFETY: by the contract.
    unsafe {
        let mut bytes = [V::load(rows[0].add(at)); N];
        for i in 1..N {
            bytes[i] = V::load(rows[i].add(at));
        }
        bytes
    }
}

impl<V: Vector, const N: usize> RowSums<V, N> for Bits2 {
    #[inline(always)]
    unsafe fn row_sums(
        rows: [*const u8; N],
        near: [*const u8; N],
        far: [*const u8; N],
        lines: usize,
        x: *const i8,
    ) -> [i32; N] {
        // The sum of all lanes, `2 * 64 * 128` a column where codes keep their places, must stay below 2^31 as well.
        let segment = (V::MAX_STEPS / (4 * V::PARTS)).clamp(1, 1 << 10);
        let mut dots = [0; N];
        for first in (0..lines).step_by(segment) {
            // SAFETY: by the contract.
            unsafe {
                let mut sums = [[V::zero(); 4]; N];
                for line in first..lines.min(first + segment) {
                    for i in 0..N {
                        prefetch::near(near[i].wrapping_add(line * LINE));
                        prefetch::far(far[i].wrapping_add(line * LINE));
                    }
                    for part in 0..V::PARTS {
                        let bytes = load_each::<V, N>(rows, line * LINE + part * V::BYTES);
                        for digit in 0..4 {
                            let x = V::load(x.add((4 * line + digit) * LINE + part * V::BYTES).cast());
                            // Codes that are shifted down may share a sum.
                            let sum = if V::PAIR_SHIFT == 0 { 0 } else { digit };
                            for i in 0..N {
                                sums[i][sum] = V::dot(sums[i][sum], bytes[i].pair(digit), x);
                            }
                        }
                    }
                }
                for i in 0..N {
                    for digit in 0..if V::PAIR_SHIFT == 0 { 1 } else { 4 } {
                        dots[i] += V::total(sums[i][digit]) >> (V::PAIR_SHIFT * digit);
                    }
                }
            }
        }
        dots
    }
}

impl<V: Vector, const N: usize> RowSums<V, N> for Base3 {
    #[inline(always)]
    unsafe fn row_sums(
        rows: [*const u8; N],
        near: [*const u8; N],
        far: [*const u8; N],
        lines: usize,
        x: *const i8,
    ) -> [i32; N] {
        // In steps of four columns, as `dense.rs` has them.
        let segment = super::BASE3_STEPS * 4 / (5 * LINE);
        let mut dots = [0; N];
        for first in (0..lines).step_by(segment) {
            // SAFETY: by the contract.
            unsafe {
                let mut sums = [[V::zero(); 2]; N];
                for line in first..lines.min(first + segment) {
                    for i in 0..N {
                        prefetch::near(near[i].wrapping_add(line * LINE));
                        prefetch::far(far[i].wrapping_add(line * LINE));
                    }
                    for part in 0..V::PARTS {
                        let mut v = load_each::<V, N>(rows, line * LINE + part * V::BYTES);
                        for i in 0..N {
                            v[i] = v[i].trits();
                        }
                        for digit in 0..5 {
                            let x = V::load(x.add((5 * line + digit) * LINE + part * V::BYTES).cast());
                            for i in 0..N {
                                sums[i][0] = V::dot(sums[i][0], v[i], x);
                                v[i] = v[i].triple();
                                sums[i][1] = V::dot(sums[i][1], v[i], x);
                            }
                        }
                    }
                }
                for i in 0..N {
                    dots[i] += super::digit_sum(V::total(sums[i][0]), V::total(sums[i][1]));
                }
            }
        }
        dots
    }
}
