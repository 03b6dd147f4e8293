//! Tiles of codes for the products of many tokens, from any layout.
#![expect(unsafe_code, reason = "vector instructions")]

use std::ops::Range;

use bitnet_core::prefetch;

use super::vector::Vector;
use crate::packed::{spread, unpack_columns, unpack_panel, unpack_rows};
use crate::packing::LINE;
use crate::ternary::CODES_PER_BYTE;
use crate::{Order, PackedMatrix, TernaryMatrix};

/// What tiles are unpacked from.
#[derive(Debug, Clone, Copy)]
pub(super) enum TileSource<'a> {
    /// The layout of checkpoints.
    Checkpoint(&'a TernaryMatrix),
    /// A prepared matrix.
    Packed(&'a PackedMatrix),
}

impl TileSource<'_> {
    pub(super) fn rows(self) -> usize {
        match self {
            Self::Checkpoint(w) => w.rows(),
            Self::Packed(w) => w.rows(),
        }
    }

    pub(super) fn cols(self) -> usize {
        match self {
            Self::Checkpoint(w) => w.cols(),
            Self::Packed(w) => w.cols(),
        }
    }

    /// Columns of a line of a row.
    pub(super) fn line_codes(self) -> usize {
        match self {
            Self::Checkpoint(_) => LINE * CODES_PER_BYTE,
            Self::Packed(w) => LINE * w.packing().digits(),
        }
    }

    /// Rows of a tile.
    pub(super) fn tile_rows(self) -> usize {
        match self {
            Self::Checkpoint(_) => LINE,
            Self::Packed(w) => w.tile_rows(),
        }
    }

    /// Starts fetching what [`unpack`] reads for the same rows and columns.
    pub(super) fn prefetch(self, row: usize, cols: Range<usize>) {
        // A checkpoint's layout is read by tests and by what quantizes, not by inference.
        let Self::Packed(w) = self else { return };
        let (data, unit) = (w.data().as_ptr(), w.unit_bytes());
        let line = |cols: usize| cols / self.line_codes() * LINE;
        match w.order() {
            Order::Panels => {
                let panel = data.wrapping_add(row / w.tile_rows() * unit);
                (cols.start / 4..cols.end.div_ceil(4))
                    .for_each(|block| prefetch::far(panel.wrapping_add(block * LINE)));
            }
            Order::Rows => {
                let rows = row..(row + w.tile_rows()).min(w.rows());
                rows.for_each(|row| prefetch::far(data.wrapping_add(row * unit + line(cols.start))));
            }
            Order::Columns => cols.for_each(|col| prefetch::far(data.wrapping_add(col * unit + line(row)))),
        }
    }
}

/// The codes of the tile that begins at row `row`, of the columns `cols`, `[group of 16 rows][block][64]`. Columns begin
/// at a whole line of the layout, `cols` is filled up to fours. What the tile holds beyond the matrix means nothing.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn unpack<V: Vector>(
    source: TileSource<'_>,
    row: usize,
    cols: Range<usize>,
    tile: &mut [u8],
) {
    let blocks = cols.len().div_ceil(4);
    assert_eq!(tile.len(), source.tile_rows() / 16 * blocks * LINE);
    let w = match source {
        TileSource::Checkpoint(w) => return checkpoint(w, row, cols, blocks, tile),
        TileSource::Packed(w) => w,
    };
    let line_codes = LINE * w.packing().digits();
    match w.order() {
        Order::Panels => {
            let panel = &w.data()[row / w.tile_rows() * w.unit_bytes()..][..w.unit_bytes()];
            unpack_panel(&panel[cols.start / 4 * LINE..][..blocks * LINE], w.packing(), tile);
        }
        Order::Rows => {
            let lines = cols.start / line_codes..cols.end.div_ceil(line_codes);
            unpack_rows(w, row, lines, blocks, tile);
        }
        Order::Columns => {
            let (line, digit) = (row / line_codes, row % line_codes / LINE);
            let (data, column_bytes) = (&**w.data(), w.unit_bytes());
            for block in 0..blocks {
                let first = cols.start + 4 * block;
                let [a, b, c, d] = unpack_columns(data, column_bytes, w.packing(), (line, digit), first);
                for part in 0..V::PARTS {
                    let at = part * V::BYTES;
                    // SAFETY: every column has a line of codes, every group of the tile a line for the block.
                    unsafe {
                        let load = [
                            V::load(a.as_ptr().add(at)),
                            V::load(b.as_ptr().add(at)),
                            V::load(c.as_ptr().add(at)),
                            V::load(d.as_ptr().add(at)),
                        ];
                        let four = V::interleave(load);
                        for q in 0..4 {
                            let to = (q * blocks + block) * LINE + at;
                            four[q].store(tile[to..][..V::BYTES].as_mut_ptr());
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn checkpoint(w: &TernaryMatrix, row: usize, cols: Range<usize>, blocks: usize, tile: &mut [u8]) {
    let quarter = w.packed_rows();
    let mut codes = [0; LINE];
    for row_of_tile in 0..LINE.min(w.rows() - row) {
        let row = row + row_of_tile;
        let shift = 2 * (row / quarter);
        debug_assert!(shift < 2 * CODES_PER_BYTE);
        let bytes = &w.packed()[row % quarter * w.cols()..][cols.clone()];
        for (index, bytes) in bytes.chunks(LINE).enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code = byte >> shift & 3;
            }
            let block = index * LINE / 4;
            spread(&codes[..4 * (blocks - block).min(LINE / 4)], row_of_tile, block, blocks, tile);
        }
    }
}
