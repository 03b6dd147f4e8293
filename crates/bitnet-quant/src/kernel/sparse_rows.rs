//! One token with chosen rows: the up projection of a ReLU^2 network, whose row need not be read where the gate is
//! not positive.
//!
//! Every row is contiguous. Line `l` of a row holds `64 * digits` columns: byte `b` has column
//! `64 digits l + 64 d + b` as its digit `d`, so that each digit of a vector meets 64 neighbouring activations.
//! In base 3 each digit meets others, and the identity of `dense.rs` takes two products a digit:
//! `256 t . x = sum over k of 3 v_k x_k - v_(k+1) x_k`.
#![expect(unsafe_code, reason = "vector instructions on raw memory")]

use super::vector::Vector;
use crate::packing::LINE;

/// How many rows ahead the first lines of a row are asked for, in groups.
const GROUPS_AHEAD: usize = 3;

/// `out[i] = t[rows[i]] . x`, two bits a code. `x` is padded with zeros to whole lines of columns.
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
    // SAFETY: as the caller's.
    unsafe { for_each_group::<V, N, false>(data, row_bytes, rows, x, out) }
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
    // SAFETY: as the caller's.
    unsafe { for_each_group::<V, N, true>(data, row_bytes, rows, x, out) }
}

/// The sums of groups of rows; asks for the rows of later groups meanwhile.
///
/// The two packings are a constant rather than a closure: a closure has no instruction set of its own, and where the
/// compiler does not inline it, every vector instruction in it becomes a call.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn for_each_group<V: Vector, const N: usize, const BASE3: bool>(
    data: &[u8],
    row_bytes: usize,
    rows: &[u32],
    x: &[i8],
    out: &mut [i32],
) {
    let digits = if BASE3 { 5 } else { 4 };
    assert_eq!(rows.len(), out.len());
    assert!(row_bytes.is_multiple_of(LINE) && x.len() >= digits * row_bytes);
    let start = |row: u32| data[row as usize * row_bytes..][..row_bytes].as_ptr();
    let ask = |rows: &[u32]| {
        for &row in rows {
            let row = data.as_ptr().wrapping_add(row as usize * row_bytes);
            for line in (0..row_bytes).step_by(LINE) {
                // SAFETY: a prefetch of any address is harmless.
                unsafe { V::prefetch(row.wrapping_add(line)) };
            }
        }
    };
    ask(&rows[..rows.len().min(GROUPS_AHEAD * N)]);
    let mut ahead = rows.chunks(N).skip(GROUPS_AHEAD);
    for (group, out) in rows.chunks(N).zip(out.chunks_mut(N)) {
        ask(ahead.next().unwrap_or_default());
        // The last group is filled up with its first row.
        let starts = std::array::from_fn(|i| start(*group.get(i).unwrap_or(&group[0])));
        // SAFETY: every row has `row_bytes / LINE` lines, `x` their columns.
        let sums = unsafe {
            if BASE3 {
                base3_sums::<V, N>(starts, row_bytes / LINE, x.as_ptr())
            } else {
                bits2_sums::<V, N>(starts, row_bytes / LINE, x.as_ptr())
            }
        };
        out.copy_from_slice(&sums[..out.len()]);
    }
}

/// # Safety
/// The CPU has the instruction set of `V`; every row has `lines` lines, `x` their columns.
#[inline(always)]
unsafe fn bits2_sums<V: Vector, const N: usize>(
    rows: [*const u8; N],
    lines: usize,
    x: *const i8,
) -> [i32; N] {
    // A line adds up to 64 * 128 * 128 to the sum of a digit's sums: 1024 of them stay below 2^31.
    let segment = (V::MAX_STEPS / (4 * V::PARTS)).clamp(1, 1024);
    let mut dots = [0; N];
    for first in (0..lines).step_by(segment) {
        // SAFETY: as the caller's.
        unsafe {
            let mut sums = [[V::zero(); 4]; N];
            for line in first..lines.min(first + segment) {
                for part in 0..V::PARTS {
                    let bytes = rows.map(|row| V::load(row.add(line * LINE + part * V::BYTES)));
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

/// # Safety
/// As [`bits2_sums`].
#[inline(always)]
unsafe fn base3_sums<V: Vector, const N: usize>(
    rows: [*const u8; N],
    lines: usize,
    x: *const i8,
) -> [i32; N] {
    // In steps of four columns, as `dense.rs` has them.
    let segment = super::BASE3_STEPS * 4 / (5 * LINE);
    let mut dots = [0; N];
    for first in (0..lines).step_by(segment) {
        // SAFETY: as the caller's.
        unsafe {
            let mut sums = [[V::zero(); 2]; N];
            for line in first..lines.min(first + segment) {
                for part in 0..V::PARTS {
                    let mut v = rows.map(|row| V::load(row.add(line * LINE + part * V::BYTES)).trits());
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
