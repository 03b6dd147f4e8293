//! Ternary weights in the order in which the kernels read them.
//!
//! Eight rows and eight columns are 16 bytes: with `blocks = ceil(cols / 8)`, those of the rows from `8 p`
//! and the columns from `8 b` lie at `16 (p blocks + b)`. Two bytes for each row, the first row first, hold
//! its codes as `w + 1` in two bits, the first column lowest. A thread loads them at once, and eight
//! activations serve eight rows. Beyond the last row and column there are zeros: activations are zero there,
//! or nobody reads the sum.

use bitnet_core::{DisjointSlice, ThreadPool};
use bitnet_quant::TernaryMatrix;

/// Rows of a panel.
pub const PANEL_ROWS: usize = 8;

/// Columns of a block of a panel.
const BLOCK_COLS: usize = 8;

/// Bytes of a block.
const BLOCK_BYTES: usize = PANEL_ROWS * BLOCK_COLS / 4;

/// Bytes of the panels of a matrix.
pub fn panel_bytes(rows: usize, cols: usize) -> usize {
    rows.div_ceil(PANEL_ROWS) * cols.div_ceil(BLOCK_COLS) * BLOCK_BYTES
}

/// Packs matrices of the same number of columns, one below the other.
#[expect(unsafe_code, reason = "threads write disjoint panels")]
pub fn pack_panels(pool: &ThreadPool, matrices: &[&TernaryMatrix]) -> Vec<u8> {
    let cols = matrices.first().map_or(0, |matrix| matrix.cols());
    assert!(matrices.iter().all(|matrix| matrix.cols() == cols), "one number of columns");
    let rows: Vec<Row<'_>> = matrices.iter().flat_map(|matrix| rows_of(matrix)).collect();
    let bytes = cols.div_ceil(BLOCK_COLS) * BLOCK_BYTES;
    let mut panels = vec![0; panel_bytes(rows.len(), cols)];
    let out = DisjointSlice::new(&mut panels);
    pool.split(rows.len().div_ceil(PANEL_ROWS), 4, |range| {
        for panel in range {
            // SAFETY: each panel belongs to one thread.
            let out = unsafe { out.part(panel * bytes..(panel + 1) * bytes) };
            let rows = &rows[panel * PANEL_ROWS..rows.len().min((panel + 1) * PANEL_ROWS)];
            for (index, row) in rows.iter().enumerate() {
                row.write(&mut out[2 * index..]);
            }
        }
    });
    panels
}

/// A row of a packed matrix: two bits of each of these bytes.
#[derive(Clone, Copy)]
struct Row<'a> {
    bytes: &'a [u8],
    shift: usize,
}

fn rows_of(matrix: &TernaryMatrix) -> impl Iterator<Item = Row<'_>> {
    let (cols, quarter) = (matrix.cols(), matrix.packed_rows());
    (0..matrix.rows()).map(move |row| Row {
        bytes: &matrix.packed()[row % quarter * cols..][..cols],
        shift: 2 * (row / quarter),
    })
}

impl Row<'_> {
    /// Writes the two bytes of each block, [`BLOCK_BYTES`] apart.
    fn write(self, out: &mut [u8]) {
        let (blocks, tail) = self.bytes.as_chunks::<BLOCK_COLS>();
        let mut last = [0; BLOCK_COLS];
        last[..tail.len()].copy_from_slice(tail);
        let last = (!tail.is_empty()).then_some(&last);
        for (block, out) in blocks.iter().chain(last).zip(out.chunks_mut(BLOCK_BYTES)) {
            out[..2].copy_from_slice(&gather(u64::from_le_bytes(*block) >> self.shift).to_le_bytes());
        }
    }
}

/// The lowest two bits of each byte side by side: halves of what is left move together, three times.
fn gather(bytes: u64) -> u16 {
    let pairs = bytes & 0x0303_0303_0303_0303;
    let nibbles = (pairs | pairs >> 6) & 0x000f_000f_000f_000f;
    let bytes = (nibbles | nibbles >> 12) & 0x0000_00ff_0000_00ff;
    (bytes | bytes >> 24) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, cols: usize, seed: usize) -> TernaryMatrix {
        let codes: Vec<i8> = (0..rows * cols).map(|i| ((i * 7 + i / 5 + seed) % 3) as i8 - 1).collect();
        TernaryMatrix::from_codes(rows, cols, &codes, 0.5).unwrap()
    }

    /// The definition, bit by bit.
    fn code(panels: &[u8], cols: usize, row: usize, col: usize) -> i8 {
        let block = row / 8 * cols.div_ceil(8) + col / 8;
        let word = &panels[16 * block + 4 * (row % 8 / 2)..][..4];
        let half = u32::from_le_bytes(word.try_into().unwrap()) >> (16 * (row % 2));
        (half >> (2 * (col % 8)) & 3) as i8 - 1
    }

    #[test]
    fn every_code_is_where_the_kernels_look_for_it() {
        let pool = ThreadPool::new(2).unwrap();
        for (shapes, cols) in
            [(vec![1], 1), (vec![8], 8), (vec![13], 21), (vec![16, 5, 3], 40), (vec![64], 7)]
        {
            let matrices: Vec<_> = shapes.iter().map(|rows| matrix(*rows, cols, *rows)).collect();
            let panels = pack_panels(&pool, &matrices.iter().collect::<Vec<_>>());
            let codes: Vec<i8> = matrices.iter().flat_map(TernaryMatrix::codes).collect();
            assert_eq!(panels.len(), panel_bytes(codes.len() / cols, cols));
            for (index, expected) in codes.iter().enumerate() {
                assert_eq!(code(&panels, cols, index / cols, index % cols), *expected, "{shapes:?} {index}");
            }
        }
    }

    #[test]
    fn padding_is_zero() {
        let panels = pack_panels(&ThreadPool::new(1).unwrap(), &[&matrix(1, 1, 1)]);
        assert_eq!((panels.len(), panels.iter().filter(|byte| **byte != 0).count()), (16, 1));
    }
}
