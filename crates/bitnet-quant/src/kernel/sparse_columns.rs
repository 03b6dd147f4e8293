//! One token with chosen columns: the down projection of a ReLU^2 network, most of whose inputs are 0 as int8.
//!
//! Every column is contiguous. Line `l` of a column holds `64 * digits` rows: byte `16 j + 4 q + i` has row
//! `64 digits l + 64 d + 16 q + 4 j + i` as its digit `d`. Interleaving the bytes of four columns then gives vector
//! `q` with rows `16 q ..` in order, four columns side by side, as the product of bytes wants them. All digits of a
//! vector meet the same four activations, so base 3 takes one product a digit, as in `dense.rs`.
//!
//! The sums of all rows are too many for registers; they lie in `scratch`, `[line][q][digit][lane]`, and several groups
//! of four columns are added in one visit.
#![expect(unsafe_code, reason = "vector instructions on raw memory")]

use super::vector::Vector;
use super::{BASE3_STEPS, LANES};
use crate::packing::{LINE, Packing};

/// Columns of one visit of the sums, for the widest kernels.
const MAX_COLUMNS: usize = 16;
/// Sums that 16 rows of each digit take together. They also tell the packings apart: a closure would have no
/// instruction set of its own, and where the compiler does not inline it, every vector instruction becomes a call.
const BITS2_SUMS: usize = 4;
const BASE3_SUMS: usize = 6;

/// `out[row] += t[row, columns] . x[columns]`, two bits a code.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn bits2<V: Vector, const GROUPS: usize>(
    data: &[u8],
    column_bytes: usize,
    columns: &[u32],
    x: &[i8],
    scratch: &mut [i32],
    out: &mut [i32],
) {
    for columns in columns.chunks(BASE3_STEPS * 4) {
        // SAFETY: as the caller's.
        unsafe { sum_columns::<V, GROUPS, BITS2_SUMS>(data, column_bytes, columns, x, scratch) };
        finish(Packing::Bits2, scratch, BITS2_SUMS, out, |sums, digit, lane| {
            sums[digit * LANES + lane] >> (V::PAIR_SHIFT * digit)
        });
    }
}

/// [`bits2`] in base 3; `t . x`, or `(t - 1) . x` where [`Vector::CENTRES_TRITS`].
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn base3<V: Vector, const GROUPS: usize>(
    data: &[u8],
    column_bytes: usize,
    columns: &[u32],
    x: &[i8],
    scratch: &mut [i32],
    out: &mut [i32],
) {
    for columns in columns.chunks(BASE3_STEPS * 4) {
        // SAFETY: as the caller's.
        unsafe { sum_columns::<V, GROUPS, BASE3_SUMS>(data, column_bytes, columns, x, scratch) };
        finish(Packing::Base3, scratch, BASE3_SUMS, out, |sums, digit, lane| {
            super::digit_sum(sums[digit * LANES + lane], sums[(digit + 1) * LANES + lane])
        });
    }
}

/// Fills `scratch` with the sums of `columns`, `4 GROUPS` of them a visit.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn sum_columns<V: Vector, const GROUPS: usize, const SUMS: usize>(
    data: &[u8],
    column_bytes: usize,
    columns: &[u32],
    x: &[i8],
    scratch: &mut [i32],
) {
    scratch.fill(0);
    let mut next = columns.chunks(4 * GROUPS).skip(1);
    for now in columns.chunks(4 * GROUPS) {
        let next = next.next().unwrap_or_default();
        // SAFETY: as the caller's.
        unsafe { add_columns::<V, GROUPS, SUMS>(data, column_bytes, now, next, x, scratch) };
    }
}

/// Adds up to `4 GROUPS` columns to the sums, `SUMS` of them for 16 rows of each digit.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn add_columns<V: Vector, const GROUPS: usize, const SUMS: usize>(
    data: &[u8],
    column_bytes: usize,
    columns: &[u32],
    next: &[u32],
    x: &[i8],
    scratch: &mut [i32],
) {
    let lines = column_bytes / LINE;
    assert!(!columns.is_empty() && columns.len() <= 4 * GROUPS && 4 * GROUPS <= MAX_COLUMNS);
    assert!(scratch.len() >= lines * 4 * SUMS * LANES);
    // Missing columns are any column, times 0.
    let mut starts = [data.as_ptr(); MAX_COLUMNS];
    let mut x_of = [0_i8; MAX_COLUMNS];
    for (i, &column) in columns.iter().enumerate() {
        starts[i] = data[column as usize * column_bytes..][..column_bytes].as_ptr();
        x_of[i] = x[column as usize];
    }
    // SAFETY: every column has `lines` lines, the scratch as many sums; a prefetch of any address is harmless.
    unsafe {
        let x4: [V; GROUPS] = std::array::from_fn(|group| V::repeat(x_of.as_ptr().add(4 * group)));
        for line in 0..lines {
            for &column in next {
                V::prefetch(data.as_ptr().wrapping_add(column as usize * column_bytes + line * LINE));
            }
            for part in 0..V::PARTS {
                let at = line * LINE + part * V::BYTES;
                let bytes: [[V; 4]; GROUPS] = std::array::from_fn(|group| {
                    V::interleave(std::array::from_fn(|i| V::load(starts[4 * group + i].add(at))))
                });
                for q in 0..4 {
                    let sums = products::<V, GROUPS, SUMS>(std::array::from_fn(|group| bytes[group][q]), x4);
                    for (index, sum) in sums.into_iter().enumerate() {
                        let lanes = ((line * 4 + q) * SUMS + index) * LANES + part * V::BYTES / 4;
                        V::add_to(sum, 0, scratch.as_mut_ptr().add(lanes));
                    }
                }
            }
        }
    }
}

/// The products of `GROUPS` vectors of codes with four activations each.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn products<V: Vector, const GROUPS: usize, const SUMS: usize>(
    bytes: [V; GROUPS],
    x4: [V; GROUPS],
) -> [V::Sum; SUMS] {
    // SAFETY: as the caller's.
    unsafe {
        let mut sums = [V::zero(); SUMS];
        for group in 0..GROUPS {
            if SUMS == BASE3_SUMS {
                let mut v = bytes[group].trits();
                sums[0] = V::dot(sums[0], v, x4[group]);
                for k in 1..SUMS {
                    v = v.triple();
                    sums[k] = V::dot(sums[k], v, x4[group]);
                }
            } else {
                for digit in 0..SUMS {
                    sums[digit] = V::dot(sums[digit], bytes[group].pair(digit), x4[group]);
                }
            }
        }
        sums
    }
}

/// Adds the sums of every row to `out`.
#[inline(always)]
fn finish(
    packing: Packing,
    scratch: &[i32],
    sums: usize,
    out: &mut [i32],
    value: impl Fn(&[i32], usize, usize) -> i32,
) {
    let rows_of_line = LINE * packing.digits();
    for (index, out) in out.chunks_mut(rows_of_line).enumerate() {
        for (q, sums) in scratch[index * 4 * sums * LANES..].chunks_exact(sums * LANES).take(4).enumerate() {
            for digit in 0..packing.digits() {
                let first = (digit * LINE + q * LANES).min(out.len());
                for (lane, out) in out[first..].iter_mut().take(LANES).enumerate() {
                    *out += value(sums, digit, lane);
                }
            }
        }
    }
}
