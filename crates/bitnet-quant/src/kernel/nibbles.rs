//! One token with rows of four-bit codes: the first look at the head (see [`crate::compact_rows`]).
//!
//! Line `l` of a row holds 128 columns, `128 l + b` in the lower and `128 l + 64 + b` in the upper half of byte `b`.
//! Activations have 16 bits, as a high and a low byte that are multiplied apart: `x = 256 high + low`.
#![expect(unsafe_code, reason = "vector instructions on raw memory")]

use bitnet_core::prefetch;

use super::vector::Vector;
use super::{FAR, NEAR};
use crate::packing::LINE;

/// `out[row] = sum of code * (256 high + low)` for neighbouring rows. Activations are padded with zeros to whole lines.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn nibbles<V: Vector>(
    data: &[u8],
    row_bytes: usize,
    high: &[i8],
    low: &[i8],
    out: &mut [i64],
) {
    assert!(row_bytes.is_multiple_of(LINE) && data.len() == out.len() * row_bytes);
    assert!(high.len() >= 2 * row_bytes && low.len() >= 2 * row_bytes);
    let (high, low) = (high.as_ptr(), low.as_ptr());
    let lines = row_bytes / LINE;
    let segment = (V::MAX_NIBBLE_STEPS / V::PARTS).max(1);
    for (row, out) in data.chunks_exact(row_bytes).zip(out) {
        *out = 0;
        for first in (0..lines).step_by(segment) {
            // SAFETY: the row has `lines` lines, the activations their columns; prefetches are harmless.
            unsafe {
                let mut sums = [[V::zero(); 2]; 2];
                for line in first..lines.min(first + segment) {
                    for part in 0..V::PARTS {
                        let at = row.as_ptr().add(line * LINE + part * V::BYTES);
                        prefetch::near(at.wrapping_add(NEAR));
                        prefetch::far(at.wrapping_add(FAR));
                        let bytes = V::load(at);
                        for nibble in 0..2 {
                            let x = (2 * line + nibble) * LINE + part * V::BYTES;
                            let codes = bytes.nibble(nibble);
                            sums[nibble][0] = V::dot(sums[nibble][0], codes, V::load(high.add(x).cast()));
                            sums[nibble][1] = V::dot(sums[nibble][1], codes, V::load(low.add(x).cast()));
                        }
                    }
                }
                for [high, low] in sums {
                    *out += 256 * i64::from(V::total(high)) + i64::from(V::total(low));
                }
            }
        }
    }
}
