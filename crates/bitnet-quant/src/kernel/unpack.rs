//! Tiles of codes for the products of many tokens, from any layout.
#![expect(unsafe_code, reason = "vector instructions")]

use std::ops::Range;

use bitnet_core::prefetch;

use super::vector::Vector;
use crate::packing::{LINE, Packing};
use crate::ternary::CODES_PER_BYTE;
use crate::{Order, PackedMatrix, TernaryMatrix};

/// Digits of a byte, by which the functions here know the packing.
const BITS2: usize = Packing::Bits2.digits();
const BASE3: usize = Packing::Base3.digits();

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
    // SAFETY: as the caller's.
    unsafe {
        match source {
            TileSource::Checkpoint(w) => checkpoint(w, row, cols, blocks, tile),
            TileSource::Packed(w) => match w.packing() {
                Packing::Bits2 => packed::<V, BITS2>(w, row, &cols, blocks, tile),
                Packing::Base3 => packed::<V, BASE3>(w, row, &cols, blocks, tile),
            },
        }
    }
}

/// [`unpack`] of a packing with so many digits.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn packed<V: Vector, const DIGITS: usize>(
    w: &PackedMatrix,
    row: usize,
    cols: &Range<usize>,
    blocks: usize,
    tile: &mut [u8],
) {
    // SAFETY: as the caller's.
    unsafe {
        match w.order() {
            Order::Panels => panel::<V, DIGITS>(w, row, cols.start / 4, blocks, tile),
            Order::Rows => rows::<V, DIGITS>(w, row, cols, blocks, tile),
            Order::Columns => columns::<V, DIGITS>(w, row, cols.start, blocks, tile),
        }
    }
}

/// A panel holds the rows of a tile, a digit for each group of them.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn panel<V: Vector, const DIGITS: usize>(
    w: &PackedMatrix,
    row: usize,
    first: usize,
    blocks: usize,
    tile: &mut [u8],
) {
    let panel = &w.data()[row / w.tile_rows() * w.unit_bytes()..][first * LINE..][..blocks * LINE];
    for (block, line) in panel.chunks_exact(LINE).enumerate() {
        // SAFETY: by the contract.
        unsafe { digits::<V, DIGITS>(line, &mut tile[block * LINE..], blocks * LINE) };
    }
}

/// Bytes of 16 rows are brought into the order of a tile first, four to a row, and taken apart then: a byte moves once for
/// all of its codes.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn rows<V: Vector, const DIGITS: usize>(
    w: &PackedMatrix,
    row: usize,
    cols: &Range<usize>,
    blocks: usize,
    tile: &mut [u8],
) {
    /// Blocks whose bytes lie in a line of a row.
    const FOURS: usize = LINE / 4;
    let lines = cols.start / (LINE * DIGITS)..cols.end.div_ceil(LINE * DIGITS);
    let (data, row_bytes, last) = (&**w.data(), w.unit_bytes(), w.rows() - 1);
    for (group, tile) in tile.chunks_exact_mut(blocks * LINE).enumerate() {
        let first = row + 16 * group;
        for (index, line) in lines.clone().enumerate() {
            let mut bytes = [[0; LINE]; FOURS];
            for four in (0..16).step_by(4) {
                let starts = lines_of(data, row_bytes, first + four, last, line);
                for part in 0..V::PARTS {
                    // SAFETY: every row has the line; 16 bytes of each vector go to a block of its own.
                    unsafe {
                        let at = part * V::BYTES;
                        let transposed = V::transpose([
                            V::load(starts[0].add(at)),
                            V::load(starts[1].add(at)),
                            V::load(starts[2].add(at)),
                            V::load(starts[3].add(at)),
                        ]);
                        for i in 0..4 {
                            let to = bytes[at / 4 + i..].as_flattened_mut()[4 * four..].as_mut_ptr();
                            transposed[i].store_apart(to, 4 * LINE);
                        }
                    }
                }
            }
            for (four, bytes) in bytes.iter().enumerate() {
                let block = index * DIGITS * FOURS + four;
                if block < blocks {
                    // SAFETY: by the contract.
                    unsafe { digits::<V, DIGITS>(bytes, &mut tile[block * LINE..], FOURS * LINE) };
                }
            }
        }
    }
}

/// Four columns at a time, the digit that holds the 64 rows of the tile.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn columns<V: Vector, const DIGITS: usize>(
    w: &PackedMatrix,
    row: usize,
    first: usize,
    blocks: usize,
    tile: &mut [u8],
) {
    let (line, digit) = (row / (LINE * DIGITS), row % (LINE * DIGITS) / LINE);
    let (data, column_bytes, last) = (&**w.data(), w.unit_bytes(), w.cols() - 1);
    for block in 0..blocks {
        // Beyond the last column the activations are 0.
        let starts = lines_of(data, column_bytes, first + 4 * block, last, line);
        for part in 0..V::PARTS {
            let at = part * V::BYTES;
            // SAFETY: every column has a line of codes, every group of the tile a line for the block.
            unsafe {
                let four = V::interleave([
                    digit_of::<V, DIGITS>(V::load(starts[0].add(at)), digit),
                    digit_of::<V, DIGITS>(V::load(starts[1].add(at)), digit),
                    digit_of::<V, DIGITS>(V::load(starts[2].add(at)), digit),
                    digit_of::<V, DIGITS>(V::load(starts[3].add(at)), digit),
                ]);
                for q in 0..4 {
                    let to = (q * blocks + block) * LINE + at;
                    four[q].store(tile[to..][..V::BYTES].as_mut_ptr());
                }
            }
        }
    }
}

/// Where line `line` of four rows or columns from `first` on begins, of the last one in place of those beyond it.
#[inline(always)]
fn lines_of(data: &[u8], bytes: usize, first: usize, last: usize, line: usize) -> [*const u8; 4] {
    let mut starts = [data.as_ptr(); 4];
    for i in 0..4 {
        starts[i] = data[(first + i).min(last) * bytes + line * LINE..][..LINE].as_ptr();
    }
    starts
}

/// The codes of a line of bytes, `tile[stride * digit..]` those of a digit, as far as the tile goes.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn digits<V: Vector, const DIGITS: usize>(line: &[u8], tile: &mut [u8], stride: usize) {
    let count = DIGITS.min((tile.len() - LINE) / stride + 1);
    for part in 0..V::PARTS {
        let at = part * V::BYTES;
        let (line, tile) = (line[at..][..V::BYTES].as_ptr(), tile[at..].as_mut_ptr());
        // SAFETY: the line and each digit of the tile have 64 bytes.
        unsafe {
            let mut bytes = V::load(line);
            for digit in 0..DIGITS {
                if digit < count {
                    let codes = if DIGITS == BITS2 { bytes.low_pair(digit) } else { bytes.top_trit() };
                    codes.store(tile.add(digit * stride));
                    if DIGITS == BASE3 {
                        bytes = bytes.triple();
                    }
                }
            }
        }
    }
}

/// The codes of one digit.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn digit_of<V: Vector, const DIGITS: usize>(mut bytes: V, digit: usize) -> V {
    // SAFETY: by the contract.
    unsafe {
        if DIGITS == BITS2 {
            return bytes.low_pair(digit);
        }
        for _ in 0..digit {
            bytes = bytes.triple();
        }
        bytes.top_trit()
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

/// Writes the codes of one row, from block `block` on, to their places in a tile.
#[inline(always)]
fn spread(codes: &[u8], row: usize, block: usize, blocks: usize, tile: &mut [u8]) {
    let start = (row / 16 * blocks + block) * LINE;
    let lines = tile[start..].chunks_exact_mut(LINE);
    for (line, four) in lines.zip(codes.as_chunks::<4>().0) {
        line[row % 16 * 4..][..4].copy_from_slice(four);
    }
}
