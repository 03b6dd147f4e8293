//! Scales in the blocks of a codec.

use half::f16;

use super::Codec;
use super::layout::{Layout, ScalePlace};
use crate::weights::MIN_SCALE;
use crate::{Error, Granularity, Result, Scales, TernaryMatrix};

impl Layout {
    /// The scales in `bytes`, whose length has been checked, for the codes of `matrix`.
    pub(super) fn read_scales(&self, matrix: &TernaryMatrix, bytes: &[u8]) -> Result<Scales> {
        let row_bytes = self.row_bytes(matrix.cols());
        let rows = || (0..matrix.rows()).map(|row| &bytes[row * row_bytes..][..row_bytes]);
        let half = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
        let single = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        match self.scale {
            ScalePlace::Absent => Ok(Scales::Tensor(1.0)),
            ScalePlace::Tail => Ok(Scales::Tensor(single(&bytes[bytes.len() - 32..]))),
            ScalePlace::RowF16 => agreed(matrix, matrix.cols(), rows().map(half).collect()),
            ScalePlace::RowF32 => agreed(matrix, matrix.cols(), rows().map(single).collect()),
            ScalePlace::Block(at) => {
                let blocks = bytes.chunks_exact(self.bytes);
                agreed(matrix, self.codes, blocks.map(|block| half(&block[at..])).collect())
            }
        }
    }

    /// Writes the scales of `matrix` to where they belong.
    pub(super) fn write_scales(&self, codec: Codec, matrix: &TernaryMatrix, bytes: &mut [u8]) -> Result<()> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let over = |row: usize, columns: std::ops::Range<usize>, takes| {
            matrix.scales().over(row, columns, cols).ok_or(Error::Granularity {
                what: codec.name(),
                takes,
                got: matrix.scales().granularity(),
            })
        };
        let row_bytes = self.row_bytes(cols);
        match self.scale {
            ScalePlace::Absent => {}
            ScalePlace::Tail => {
                let Scales::Tensor(scale) = matrix.scales() else {
                    let got = matrix.scales().granularity();
                    return Err(Error::Granularity { what: codec.name(), takes: Granularity::Tensor, got });
                };
                let tail = bytes.len() - 32;
                bytes[tail..][..4].copy_from_slice(&scale.to_le_bytes());
            }
            ScalePlace::RowF16 => {
                for row in 0..rows {
                    let scale = half_bytes(over(row, 0..cols, Granularity::Row)?)?;
                    bytes[row * row_bytes..][..2].copy_from_slice(&scale);
                }
            }
            ScalePlace::RowF32 => {
                for row in 0..rows {
                    let scale = over(row, 0..cols, Granularity::Row)?;
                    bytes[row * row_bytes..][..4].copy_from_slice(&scale.to_le_bytes());
                }
            }
            ScalePlace::Block(at) => {
                let per_row = cols / self.codes;
                for (index, block) in bytes.chunks_exact_mut(self.bytes).enumerate() {
                    let start = index % per_row * self.codes;
                    let columns = start..start + self.codes;
                    let scale = over(index / per_row, columns, Granularity::Group(self.codes))?;
                    block[at..][..2].copy_from_slice(&half_bytes(scale)?);
                }
            }
        }
        Ok(())
    }
}

/// A scale as f16, which must not make 0 or infinity of it.
fn half_bytes(scale: f32) -> Result<[u8; 2]> {
    let half = f16::from_f32(scale);
    if !(half.is_finite() && half > f16::ZERO) {
        return Err(Error::InvalidScale(scale));
    }
    Ok(half.to_le_bytes())
}

/// Scales of blocks of `width` columns, as one where all agree, as one a row where those of each row do.
///
/// Blocks of zeros may have a scale of 0, which says nothing: they take that of their row, else of the matrix.
fn agreed(matrix: &TernaryMatrix, width: usize, mut values: Vec<f32>) -> Result<Scales> {
    if values.is_empty() {
        return Ok(Scales::Tensor(MIN_SCALE));
    }
    let per_row = matrix.cols() / width;
    for (index, &scale) in values.iter().enumerate() {
        let (row, col) = (index / per_row, index % per_row * width);
        let is_zero = || matrix.row_codes(row).skip(col).take(width).all(|code| code == 0);
        let is_sound = scale.is_finite() && (scale > 0.0 || scale == 0.0 && is_zero());
        if !is_sound {
            return Err(Error::BlockScale { row, col, scale });
        }
    }
    let first = |values: &[f32]| values.iter().copied().find(|scale| *scale > 0.0);
    let Some(any) = first(&values) else { return Ok(Scales::Tensor(MIN_SCALE)) };
    for row in values.chunks_exact_mut(per_row) {
        let of_row = first(row).unwrap_or(any);
        row.iter_mut().filter(|scale| **scale == 0.0).for_each(|scale| *scale = of_row);
    }
    Ok(if values.iter().all(|scale| *scale == any) {
        Scales::Tensor(any)
    } else if values.chunks_exact(per_row).all(|row| row.iter().all(|scale| *scale == row[0])) {
        Scales::Rows(values.into_iter().step_by(per_row).collect())
    } else {
        Scales::Groups { cols: width, values }
    })
}
