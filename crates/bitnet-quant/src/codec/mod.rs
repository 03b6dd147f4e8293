//! On-disk encodings of ternary matrices, to and from the one type.
//!
//! | codec | file | bits per weight | scales it stores |
//! |---|---|---|---|
//! | `hf` | safetensors, Hugging Face | 2 | none |
//! | `i2_s`, `i2_s_arm` | GGUF, bitnet.cpp | 2 | one, f32 |
//! | `tq1_0` | GGUF, llama.cpp | 1.6875 | f16 per 256 columns |
//! | `tq2_0` | GGUF, llama.cpp | 2.0625 | f16 per 256 columns |
//! | `q2_0` | GGUF, llama.cpp | 2.25 | f16 per 64 columns |
//! | `iq1_bn` | GGUF, `ik_llama.cpp` | 1.625 | f16 per row |
//! | `iq2_bn` | GGUF, `ik_llama.cpp` | 2 | f32 per row |
//! | `base3` | none: five codes a byte, to compare | 1.6 | none |
//! | `bitmap` | none: a bit for each weight, one for each sign, to compare | 1 + share of nonzeros | none |
//!
//! Codes are `t = w + 1`. Decoding streams over rows and checks what it reads: code 3, or a byte that no codes encode
//! to, is an error that names the first such place. Scales that agree become one.

mod base3;
mod bitmap;
mod bits2;
mod block_scales;
mod layout;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use bitnet_core::{Buffer, Shape, ThreadPool};

use self::layout::{Layout, ScalePlace};
use crate::ternary::CODES_PER_BYTE;
use crate::{Error, Result, TernaryMatrix};

/// An on-disk encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Packed Hugging Face checkpoints: see [`crate::ternary`]. The scale is a tensor of its own.
    HfPacked,
    /// `I2_S` of bitnet.cpp: the codes of the whole matrix in blocks of 128, `byte[j] = t[j] << 6 | t[32 + j] << 4 |
    /// t[64 + j] << 2 | t[96 + j]`, then the scale as f32 and 28 zeros. Source: BitNet, `ggml-bitnet-mad.cpp`.
    I2S,
    /// `I2_S` as builds of bitnet.cpp for ARM wrote it for a time: blocks of 64, strides of 16. Nothing in a file says
    /// so.
    I2SArm,
    /// `TQ1_0`: base 3, blocks of 256 codes in 54 bytes. Source: llama.cpp, `ggml-quants.c`.
    Tq1_0,
    /// `TQ2_0`: two bits, lowest first, blocks of 256 codes in 66 bytes. Source: llama.cpp, `ggml-quants.c`.
    Tq2_0,
    /// `Q2_0`: two bits, in order, blocks of 64 codes in 18 bytes. Source: llama.cpp, `ggml-quants.c`.
    Q2_0,
    /// `IQ1_BN`: base 3, rows of a scale and blocks of 64 codes in 13 bytes. Source: `ik_llama.cpp`, `iqk_quantize.cpp`.
    Iq1Bn,
    /// `IQ2_BN`: two bits, rows of a scale and blocks of 64 codes in 16 bytes. Source: as [`Self::Iq1Bn`].
    Iq2Bn,
    /// Five codes of a row in a byte, the first as the highest digit: see [`crate::Packing::Base3`]. Rows end on a byte.
    Base3,
    /// A bit for each weight that is not 0, lowest first, row-major; then a bit for each of those, set for -1.
    Bitmap,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Self; 10] = [
        Self::HfPacked,
        Self::I2S,
        Self::I2SArm,
        Self::Tq1_0,
        Self::Tq2_0,
        Self::Q2_0,
        Self::Iq1Bn,
        Self::Iq2Bn,
        Self::Base3,
        Self::Bitmap,
    ];

    /// Name in Python and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HfPacked => "hf",
            Self::I2S => "i2_s",
            Self::I2SArm => "i2_s_arm",
            Self::Tq1_0 => "tq1_0",
            Self::Tq2_0 => "tq2_0",
            Self::Q2_0 => "q2_0",
            Self::Iq1Bn => "iq1_bn",
            Self::Iq2Bn => "iq2_bn",
            Self::Base3 => "base3",
            Self::Bitmap => "bitmap",
        }
    }

    /// Whether the bytes hold the scales as well.
    pub fn stores_scales(self) -> bool {
        self.layout().is_some_and(|layout| layout.scale != ScalePlace::Absent)
    }

    /// Bytes of a `rows x cols` matrix. [`Self::Bitmap`] takes so many when no weight is 0, and a bit less for each
    /// that is.
    ///
    /// Errors: [`Error::Blocks`] for a shape that the codec cannot store, [`Error::Core`] for one beyond memory.
    pub fn byte_len(self, rows: usize, cols: usize) -> Result<usize> {
        let codes = Shape::from([rows, cols]).elements()?;
        match (self, self.layout()) {
            (_, Some(layout)) => layout.byte_len(self, rows, cols),
            (Self::Bitmap, None) => Ok(2 * codes.div_ceil(8)),
            (_, None) => Ok(rows.div_ceil(CODES_PER_BYTE) * cols),
        }
    }

    /// The bytes of `matrix`. Scales that are f16 in the format are rounded to it; see [`Self::stores_scales`].
    ///
    /// Errors: those of [`Self::byte_len`], [`Error::Granularity`] for scales finer than the format has them,
    /// [`Error::InvalidScale`] for one beyond f16.
    pub fn encode(self, pool: &ThreadPool, matrix: &TernaryMatrix) -> Result<Vec<u8>> {
        match (self, self.layout()) {
            (_, Some(layout)) => layout.encode(self, pool, matrix),
            (Self::Bitmap, None) => Ok(bitmap::encode(matrix)),
            (_, None) => Ok(matrix.packed().to_vec()),
        }
    }

    /// The matrix that `bytes` hold, with the scales in them, or a scale of 1 where [`Self::stores_scales`] is false:
    /// see [`TernaryMatrix::with_scales`]. [`Self::HfPacked`] is read in place.
    ///
    /// The scale of a block of zeros may be 0; it then is that of a neighbour. Scales that agree in each row, or in all
    /// of the matrix, become scales of that granularity.
    ///
    /// Errors: those of [`Self::byte_len`], [`Error::Length`], [`Error::InvalidCode`] for the first code that is not
    /// ternary (3 stands for a byte in base 3 that no codes encode to), [`Error::BlockScale`], [`Error::InvalidScale`].
    pub fn decode(
        self,
        pool: &ThreadPool,
        rows: usize,
        cols: usize,
        bytes: &Buffer,
    ) -> Result<TernaryMatrix> {
        Shape::from([rows, cols]).elements()?;
        match (self, self.layout()) {
            (_, Some(layout)) => layout.decode(self, pool, rows, cols, bytes),
            (Self::Bitmap, None) => bitmap::decode(pool, rows, cols, bytes),
            (_, None) => TernaryMatrix::from_packed(rows, cols, bytes.clone(), 1.0),
        }
    }

    /// Of the codecs that store rows in blocks.
    fn layout(self) -> Option<Layout> {
        Some(match self {
            Self::HfPacked | Self::Bitmap => return None,
            Self::I2S => bits2::I2_S,
            Self::I2SArm => bits2::I2_S_ARM,
            Self::Tq1_0 => base3::TQ1_0,
            Self::Tq2_0 => bits2::TQ2_0,
            Self::Q2_0 => bits2::Q2_0,
            Self::Iq1Bn => base3::IQ1_BN,
            Self::Iq2Bn => bits2::IQ2_BN,
            Self::Base3 => base3::BASE3,
        })
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Codec {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name).ok_or_else(|| Error::UnknownCodec {
            name: name.to_owned(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}
