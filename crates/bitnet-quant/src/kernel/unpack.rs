//! Tiles of codes for the products of many tokens, from any layout.
#![expect(unsafe_code, reason = "vector instructions")]

use std::ops::Range;

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

    pub(super) fn scale(self) -> f32 {
        match self {
            Self::Checkpoint(w) => w.scale(),
            Self::Packed(w) => w.scale(),
        }
    }

    /// Rows of a tile.
    pub(super) fn tile_rows(self) -> usize {
        match self {
            Self::Checkpoint(_) => LINE,
            Self::Packed(w) => w.tile_rows(),
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
            for block in 0..blocks {
                let codes = unpack_columns(w, (line, digit), cols.start + 4 * block);
                for part in 0..V::PARTS {
                    // SAFETY: every column has a line of codes, every group of the tile a line for the block.
                    unsafe {
                        let [a, b, c, d] = &codes;
                        let load = [a, b, c, d].map(|codes| V::load(codes.as_ptr().add(part * V::BYTES)));
                        for (q, four) in V::interleave(load).into_iter().enumerate() {
                            let at = (q * blocks + block) * LINE + part * V::BYTES;
                            four.store(tile[at..][..V::BYTES].as_mut_ptr());
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
