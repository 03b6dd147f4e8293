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

use bitnet_core::prefetch;

use super::vector::Vector;
use super::{BASE3_STEPS, LANES};
use crate::packing::{LINE, Packing};

/// Columns of one visit of the sums, for the widest kernels.
const MAX_COLUMNS: usize = 16;
/// How many visits ahead a column is asked for from memory; for the first-level cache it is one.
const FAR_VISITS: usize = 3;

/// The columns of a visit, and of later ones.
struct Visit<'a> {
    now: &'a [u32],
    near: &'a [u32],
    far: &'a [u32],
}

/// Products of interleaved bytes. A type rather than a closure: a closure may be compiled apart from the function that
/// carries the instruction set.
trait ColumnSums<V: Vector> {
    /// Sums for every 16 rows of a digit.
    const SUMS: usize;
    const PACKING: Packing;

    /// Adds the products of one vector of four columns; the first `SUMS` sums are used.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    unsafe fn add(sums: &mut [V::Sum; 6], bytes: V, x4: V);

    /// `t . x` of a digit and a lane.
    fn value(sums: &[i32], digit: usize, lane: usize) -> i32;
}

/// Two bits a code.
struct Bits2;

/// Base 3.
struct Base3;

impl<V: Vector> ColumnSums<V> for Bits2 {
    const SUMS: usize = 4;
    const PACKING: Packing = Packing::Bits2;

    #[inline(always)]
    unsafe fn add(sums: &mut [V::Sum; 6], bytes: V, x4: V) {
        for digit in 0..4 {
            // SAFETY: by the contract.
            sums[digit] = unsafe { V::dot(sums[digit], bytes.pair(digit), x4) };
        }
    }

    #[inline(always)]
    fn value(sums: &[i32], digit: usize, lane: usize) -> i32 {
        sums[digit * LANES + lane] >> (V::PAIR_SHIFT * digit)
    }
}

impl<V: Vector> ColumnSums<V> for Base3 {
    const SUMS: usize = 6;
    const PACKING: Packing = Packing::Base3;

    #[inline(always)]
    unsafe fn add(sums: &mut [V::Sum; 6], bytes: V, x4: V) {
        // SAFETY: by the contract.
        unsafe {
            let mut v = bytes.trits();
            for k in 0..5 {
                sums[k] = V::dot(sums[k], v, x4);
                v = v.triple();
            }
            sums[5] = V::dot(sums[5], v, x4);
        }
    }

    #[inline(always)]
    fn value(sums: &[i32], digit: usize, lane: usize) -> i32 {
        super::digit_sum(sums[digit * LANES + lane], sums[(digit + 1) * LANES + lane])
    }
}

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
    // SAFETY: by the contract.
    unsafe { all::<V, Bits2, GROUPS>(data, column_bytes, columns, x, scratch, out) }
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
    // SAFETY: by the contract.
    unsafe { all::<V, Base3, GROUPS>(data, column_bytes, columns, x, scratch, out) }
}

/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn all<V: Vector, K: ColumnSums<V>, const GROUPS: usize>(
    data: &[u8],
    column_bytes: usize,
    columns: &[u32],
    x: &[i8],
    scratch: &mut [i32],
    out: &mut [i32],
) {
    let count = 4 * GROUPS;
    for columns in columns.chunks(BASE3_STEPS * 4) {
        scratch.fill(0);
        for start in (0..columns.len()).step_by(count) {
            let of_visit = |ahead: usize| {
                let start = (start + ahead * count).min(columns.len());
                &columns[start..(start + count).min(columns.len())]
            };
            let visit = Visit { now: of_visit(0), near: of_visit(1), far: of_visit(FAR_VISITS) };
            // SAFETY: by the contract.
            unsafe { add_columns::<V, K, GROUPS>(data, column_bytes, &visit, x, scratch) };
        }
        finish::<V, K>(scratch, out);
    }
}

/// Adds up to `4 GROUPS` columns to the sums, and asks for later ones meanwhile.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn add_columns<V: Vector, K: ColumnSums<V>, const GROUPS: usize>(
    data: &[u8],
    column_bytes: usize,
    visit: &Visit<'_>,
    x: &[i8],
    scratch: &mut [i32],
) {
    let columns = visit.now;
    let lines = column_bytes / LINE;
    assert!(!columns.is_empty() && columns.len() <= 4 * GROUPS && 4 * GROUPS <= MAX_COLUMNS);
    assert!(scratch.len() >= lines * 4 * K::SUMS * LANES);
    // Missing columns are any column, times 0.
    let mut starts = [data[columns[0] as usize * column_bytes..][..column_bytes].as_ptr(); MAX_COLUMNS];
    let mut x_of = [0_i8; MAX_COLUMNS];
    for (i, &column) in columns.iter().enumerate() {
        starts[i] = data[column as usize * column_bytes..][..column_bytes].as_ptr();
        x_of[i] = x[column as usize];
    }
    // SAFETY: every column has `lines` lines, the scratch as many sums; a prefetch of any address is harmless.
    unsafe {
        let mut x4 = [V::repeat(x_of.as_ptr()); GROUPS];
        for group in 1..GROUPS {
            x4[group] = V::repeat(x_of.as_ptr().add(4 * group));
        }
        for line in 0..lines {
            let at = |column: u32| data.as_ptr().wrapping_add(column as usize * column_bytes + line * LINE);
            for &column in visit.near {
                prefetch::near(at(column));
            }
            for &column in visit.far {
                prefetch::far(at(column));
            }
            for part in 0..V::PARTS {
                let at = line * LINE + part * V::BYTES;
                let mut bytes = [[x4[0]; 4]; GROUPS];
                for group in 0..GROUPS {
                    let [a, b, c, d] = *starts[4 * group..].first_chunk().expect("a group is four columns");
                    bytes[group] = V::interleave([
                        V::load(a.add(at)),
                        V::load(b.add(at)),
                        V::load(c.add(at)),
                        V::load(d.add(at)),
                    ]);
                }
                for q in 0..4 {
                    let mut sums = [V::zero(); 6];
                    for group in 0..GROUPS {
                        K::add(&mut sums, bytes[group][q], x4[group]);
                    }
                    for index in 0..K::SUMS {
                        let lanes = ((line * 4 + q) * K::SUMS + index) * LANES + part * V::BYTES / 4;
                        V::add_to(sums[index], 0, scratch.as_mut_ptr().add(lanes));
                    }
                }
            }
        }
    }
}

/// Adds the sums of every row to `out`.
#[inline(always)]
fn finish<V: Vector, K: ColumnSums<V>>(scratch: &[i32], out: &mut [i32]) {
    let digits = K::PACKING.digits();
    for (index, out) in out.chunks_mut(LINE * digits).enumerate() {
        for (q, sums) in
            scratch[index * 4 * K::SUMS * LANES..].chunks_exact(K::SUMS * LANES).take(4).enumerate()
        {
            for digit in 0..digits {
                let first = (digit * LINE + q * LANES).min(out.len());
                for (lane, out) in out[first..].iter_mut().take(LANES).enumerate() {
                    *out += K::value(sums, digit, lane);
                }
            }
        }
    }
}
