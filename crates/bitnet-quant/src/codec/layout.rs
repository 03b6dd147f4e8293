//! Rows in blocks: where codes and scales lie, as data, and the one way through them.

use bitnet_core::{Buffer, ThreadPool};

use super::Codec;
use crate::{Error, Result, TernaryMatrix};

/// How a codec stores a matrix.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Codes of a block.
    pub(super) codes: usize,
    /// Bytes of a block, with its scale where it has one.
    pub(super) bytes: usize,
    /// Whether the last block of a row may hold fewer codes.
    pub(super) is_ragged: bool,
    pub(super) scale: ScalePlace,
    /// Blocks to codes `w + 1`; 3 for what encodes nothing.
    pub(super) unpack: fn(&[u8], &mut [u8]),
    /// Codes `w + 1` to blocks, whose scales it leaves alone.
    pub(super) pack: fn(&[u8], &mut [u8]),
}

/// Where scales are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalePlace {
    /// Elsewhere.
    Absent,
    /// One f32 behind all blocks, which run on from row to row; with zeros, 32 bytes.
    Tail,
    /// One f16 in each block, at this byte.
    Block(usize),
    /// One f16 in front of each row.
    RowF16,
    /// One f32 in front of each row.
    RowF32,
}

impl ScalePlace {
    /// Bytes in front of a row.
    pub(super) fn row_header(self) -> usize {
        match self {
            Self::RowF16 => 2,
            Self::RowF32 => 4,
            Self::Absent | Self::Tail | Self::Block(_) => 0,
        }
    }

    /// Bytes behind the last row.
    fn tail(self) -> usize {
        if self == Self::Tail { 32 } else { 0 }
    }
}

impl Layout {
    /// Bytes of a row, where rows are whole blocks.
    pub(super) fn row_bytes(&self, cols: usize) -> usize {
        self.scale.row_header() + cols.div_ceil(self.codes) * self.bytes
    }

    /// Whether blocks run on from one row into the next.
    fn crosses_rows(&self, cols: usize) -> bool {
        self.scale == ScalePlace::Tail && !cols.is_multiple_of(self.codes)
    }

    /// `rows * cols` does not overflow.
    pub(super) fn byte_len(&self, codec: Codec, rows: usize, cols: usize) -> Result<usize> {
        let run = if self.crosses_rows(cols) { rows * cols } else { cols };
        if !run.is_multiple_of(self.codes) && !self.is_ragged {
            return Err(Error::Blocks { codec: codec.name(), block: self.codes, rows, cols });
        }
        let blocks = if self.crosses_rows(cols) {
            run / self.codes * self.bytes
        } else {
            // Small blocks may take more bytes than codes only by their headers.
            rows.saturating_mul(self.row_bytes(cols))
        };
        Ok(blocks.saturating_add(self.scale.tail()))
    }

    pub(super) fn decode(
        &self,
        codec: Codec,
        pool: &ThreadPool,
        rows: usize,
        cols: usize,
        bytes: &Buffer,
    ) -> Result<TernaryMatrix> {
        let expected = self.byte_len(codec, rows, cols)?;
        if bytes.len() != expected {
            return Err(Error::Length { what: codec.name(), expected, got: bytes.len() });
        }
        let blocks = &bytes[..expected - self.scale.tail()];
        let matrix = if self.crosses_rows(cols) {
            let mut codes = vec![0; rows * cols];
            (self.unpack)(blocks, &mut codes);
            TernaryMatrix::from_rows(pool, rows, cols, 1.0, |(), row, out| {
                out.copy_from_slice(&codes[row * cols..][..cols]);
            })?
        } else {
            let (row_bytes, header) = (self.row_bytes(cols), self.scale.row_header());
            TernaryMatrix::from_rows(pool, rows, cols, 1.0, |(), row, out| {
                (self.unpack)(&blocks[row * row_bytes..][header..row_bytes], out);
            })?
        };
        let scales = self.read_scales(&matrix, bytes)?;
        matrix.with_scales(scales)
    }

    pub(super) fn encode(&self, codec: Codec, pool: &ThreadPool, matrix: &TernaryMatrix) -> Result<Vec<u8>> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let mut out = vec![0; self.byte_len(codec, rows, cols)?];
        let blocks_len = out.len() - self.scale.tail();
        if self.crosses_rows(cols) {
            let mut codes = vec![0; rows * cols];
            for (row, codes) in codes.chunks_exact_mut(cols).enumerate() {
                matrix.read_row(row, codes);
            }
            (self.pack)(&codes, &mut out[..blocks_len]);
        } else {
            self.encode_rows(pool, matrix, &mut out[..blocks_len]);
        }
        self.write_scales(codec, matrix, &mut out)?;
        Ok(out)
    }

    fn encode_rows(&self, pool: &ThreadPool, matrix: &TernaryMatrix, out: &mut [u8]) {
        let (row_bytes, header) = (self.row_bytes(matrix.cols()), self.scale.row_header());
        pool.split_rows(out, row_bytes, |rows, out| {
            let mut codes = vec![0; matrix.cols()];
            for (row, out) in rows.zip(out.chunks_exact_mut(row_bytes)) {
                matrix.read_row(row, &mut codes);
                (self.pack)(&codes, &mut out[header..]);
            }
        });
    }
}
