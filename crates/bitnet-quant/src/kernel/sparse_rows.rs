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

/// Calls `row_sums` on groups of rows, and asks for the rows of later groups meanwhile.
#[inline(always)]
unsafe fn for_each_group<V: Vector, const N: usize>(
    data: &[u8],
    row_bytes: usize,
    rows: &[u32],
    out: &mut [i32],
    row_sums: impl Fn([*const u8; N]) -> [i32; N],
) {
    assert_eq!(rows.len(), out.len());
    let start = |row: u32| data[row as usize * row_bytes..][..row_bytes].as_ptr();
    let ask = |row: u32| {
        let row = data.as_ptr().wrapping_add(row as usize * row_bytes);
        for line in (0..row_bytes).step_by(LINE) {
            // SAFETY: a prefetch of any address is harmless.
            unsafe { V::prefetch(row.wrapping_add(line)) };
        }
    };
    for &row in rows.iter().take(GROUPS_AHEAD * N) {
        ask(row);
    }
    let (groups, rest) = rows.as_chunks::<N>();
    for (index, group) in groups.iter().enumerate() {
        for &row in rows.iter().skip((index + GROUPS_AHEAD) * N).take(N) {
            ask(row);
        }
        out[index * N..][..N].copy_from_slice(&row_sums(group.map(start)));
    }
    if let Some(&last) = rest.last() {
        let padded = std::array::from_fn(|i| rest.get(i).copied().unwrap_or(last));
        let sums = row_sums(padded.map(start));
        out[groups.len() * N..].copy_from_slice(&sums[..rest.len()]);
    }
}

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
    assert!(row_bytes.is_multiple_of(LINE) && x.len() >= 4 * row_bytes);
    let x = x.as_ptr();
    let lines = row_bytes / LINE;
    let segment = (V::MAX_STEPS / (4 * V::PARTS)).max(1);
    let row_sums = |rows: [*const u8; N]| {
        let mut dots = [0; N];
        for first in (0..lines).step_by(segment) {
            // SAFETY: every row has `lines` lines, `x` their columns.
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
    };
    // SAFETY: as the caller's.
    unsafe { for_each_group::<V, N>(data, row_bytes, rows, out, row_sums) }
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
    let x = x.as_ptr();
    let lines = row_bytes / LINE;
    // In steps of four columns, as `dense.rs` has them.
    let segment = super::BASE3_STEPS * 4 / (5 * LINE);
    let row_sums = |rows: [*const u8; N]| {
        let mut dots = [0; N];
        for first in (0..lines).step_by(segment) {
            // SAFETY: every row has `lines` lines, `x` their columns.
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
    };
    // SAFETY: as the caller's.
    unsafe { for_each_group::<V, N>(data, row_bytes, rows, out, row_sums) }
}
