//! A batch as the kernels read it: what belongs to each of its rows.

use bitnet_metal::kernels::{AttentionShape, Decode};
use bitnet_metal::{Gpu, Memory};

use crate::Result;
use crate::backend::{Limits, PAGE, Page, Work};

/// Rows that go through the layers together: all tokens of a batch, or those whose outputs are asked for.
#[derive(Debug)]
pub(super) struct Rows<M> {
    /// Position of each row in its sequence.
    pub(super) positions: M,
    /// Which sequence of the batch each row belongs to.
    pub(super) sequences: M,
    /// Neighbouring rows of a sequence, `[tiles, 2]`: the first one, and how many.
    pub(super) tiles: M,
    host: HostRows,
}

/// The same, on its way to the device.
#[derive(Debug, Default)]
struct HostRows {
    positions: Vec<u32>,
    sequences: Vec<u32>,
    tiles: Vec<[u32; 2]>,
}

/// A batch on the device.
#[derive(Debug)]
pub(super) struct Batch<M> {
    pub(super) ids: M,
    pub(super) page_table: M,
    pub(super) table_stride: usize,
    pub(super) all: Rows<M>,
    pub(super) outputs: Rows<M>,
    /// Which of all rows the outputs are.
    pub(super) output_rows: M,
}

impl<M: Memory> Rows<M> {
    fn new<G: Gpu<Memory = M>>(gpu: &G, tokens: usize) -> Result<Self> {
        Ok(Self {
            positions: gpu.allocate(tokens * 4)?,
            sequences: gpu.allocate(tokens * 4)?,
            tiles: gpu.allocate(tokens * 8)?,
            host: HostRows::default(),
        })
    }

    /// Takes the last `tokens(work)` tokens of every sequence, in tiles of at most `tile` rows.
    fn fill(&mut self, batch: &[Work<'_>], tile: usize, tokens: impl Fn(&Work<'_>) -> usize) {
        let HostRows { positions, sequences, tiles } = &mut self.host;
        positions.clear();
        sequences.clear();
        tiles.clear();
        for (sequence, work) in batch.iter().enumerate() {
            let (count, end) = (tokens(work), work.position + work.ids.len());
            let first = positions.len();
            let starts = (0..count).step_by(tile);
            tiles.extend(starts.map(|start| [(first + start) as u32, tile.min(count - start) as u32]));
            positions.extend((end - count..end).map(|position| position as u32));
            sequences.extend(std::iter::repeat_n(sequence as u32, count));
        }
        self.positions.write(0, bytemuck::cast_slice(positions));
        self.sequences.write(0, bytemuck::cast_slice(sequences));
        self.tiles.write(0, bytemuck::cast_slice(tiles));
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.host.positions.len()
    }

    /// Number of tiles.
    pub(super) fn tile_count(&self) -> usize {
        self.host.tiles.len()
    }

    /// All of them as single tokens.
    pub(super) fn decode(&self) -> Decode {
        let last = self.host.positions.iter().max().copied().unwrap_or(0) as usize;
        Decode { tokens: self.len(), pages: last / PAGE + 1 }
    }

    /// Positions whose keys and values are read, tile by tile, or token by token.
    pub(super) fn positions_read(&self, shape: &AttentionShape, by_tiles: bool) -> usize {
        let begin = |position: usize| match shape.window {
            Some(window) => (position + 1).saturating_sub(window) / PAGE * PAGE,
            None => 0,
        };
        let read = |first: usize, last: usize| {
            let position = |row: usize| self.host.positions[row] as usize;
            position(last) + 1 - begin(position(first))
        };
        if by_tiles {
            let tiles = self.host.tiles.iter();
            tiles.map(|[first, count]| read(*first as usize, (first + count) as usize - 1)).sum()
        } else {
            (0..self.len()).map(|row| read(row, row)).sum()
        }
    }
}

impl<M: Memory> Batch<M> {
    /// Room for the batches of a session.
    pub(super) fn new<G: Gpu<Memory = M>>(gpu: &G, limits: Limits) -> Result<Self> {
        let table_stride = Page::count(limits.positions).max(1);
        Ok(Self {
            ids: gpu.allocate(limits.tokens * 4)?,
            page_table: gpu.allocate(limits.tokens.saturating_mul(table_stride).saturating_mul(4))?,
            table_stride,
            all: Rows::new(gpu, limits.tokens)?,
            outputs: Rows::new(gpu, limits.tokens)?,
            output_rows: gpu.allocate(limits.tokens * 4)?,
        })
    }

    /// Takes a batch that fits, and whose tokens exist.
    pub(super) fn fill(&mut self, batch: &[Work<'_>], tile: usize) {
        let outputs = |work: &Work<'_>| work.outputs.min(work.ids.len());
        self.all.fill(batch, tile, |work| work.ids.len());
        self.outputs.fill(batch, tile, outputs);
        let (mut row, mut rows) = (0, Vec::with_capacity(self.outputs.len()));
        for (sequence, work) in batch.iter().enumerate() {
            self.ids.write(row * 4, bytemuck::cast_slice(work.ids));
            row += work.ids.len();
            rows.extend((row - outputs(work)..row).map(|row| row as u32));
            let pages: Vec<u32> =
                work.pages[..Page::count(work.position + work.ids.len())].iter().map(|page| page.0).collect();
            self.page_table.write(sequence * self.table_stride * 4, bytemuck::cast_slice(&pages));
        }
        self.output_rows.write(0, bytemuck::cast_slice(&rows));
    }
}
