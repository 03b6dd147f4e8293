//! Panels of `16 * digits` rows: see `kernel/dense.rs`.

use super::source::{SourceRow, ZERO, encode_columns};
use crate::TernaryMatrix;
use crate::packing::{LINE, Packing};

/// Rows of one digit of a panel.
const LANES: usize = 16;

/// Packs panel `panel` into `out`.
pub(super) fn pack(matrix: &TernaryMatrix, panel: usize, packing: Packing, out: &mut [u8]) {
    let (cols, digits) = (matrix.cols(), packing.digits());
    let mut bytes = vec![packing.encode([ZERO; 5]); cols.next_multiple_of(4)];
    for lane in 0..LANES {
        let row = |digit: usize| {
            (digit < digits)
                .then(|| SourceRow::new(matrix, (panel * digits + digit) * LANES + lane))
                .flatten()
        };
        encode_columns(std::array::from_fn(row), packing, 0, &mut bytes[..cols]);
        for (line, four) in out.chunks_exact_mut(LINE).zip(bytes.as_chunks::<4>().0) {
            line[4 * lane..][..4].copy_from_slice(four);
        }
    }
}

/// The codes of blocks of a panel, `[digit][block][64]`: a tile.
#[inline(always)]
pub(crate) fn unpack(panel: &[u8], packing: Packing, tile: &mut [u8]) {
    let digits = packing.digits();
    let codes_of_digit = tile.len() / digits;
    for (digit, tile) in tile.chunks_exact_mut(codes_of_digit).enumerate() {
        let pairs = tile.iter_mut().zip(panel);
        match packing {
            Packing::Bits2 => pairs.for_each(|(code, byte)| *code = Packing::Bits2.decode(*byte, digit)),
            Packing::Base3 => pairs.for_each(|(code, byte)| *code = Packing::Base3.decode(*byte, digit)),
        }
    }
}
