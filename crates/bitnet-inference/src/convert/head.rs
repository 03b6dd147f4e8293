//! Float matrices as GGUF stores them: the embedding and the head.

use std::str::FromStr;

use bitnet_core::FloatMatrix;
use half::{bf16, f16};

use super::q6_k;
use crate::checkpoint::gguf::TensorType;
use crate::model::{Linear, Model};
use crate::{Error, Result};

/// Weights of a block of `Q8_0`.
const BLOCK: usize = 32;

/// Element type of embedding and head in a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeadType {
    /// IEEE 754 binary16: holds every bfloat16 of a usual size.
    #[default]
    F16,
    /// The upper half of a binary32.
    BF16,
    /// Signed bytes, 32 with a scale: half the size, and not lossless.
    Q8_0,
    /// Six bits, 256 with a scale for each 16: two fifths of the size, and not lossless.
    Q6K,
}

impl HeadType {
    /// Every type.
    pub const ALL: [Self; 4] = [Self::F16, Self::BF16, Self::Q8_0, Self::Q6K];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q6K => "q6_k",
        }
    }

    pub(super) fn tensor_type(self) -> TensorType {
        match self {
            Self::F16 => TensorType::F16,
            Self::BF16 => TensorType::BF16,
            Self::Q8_0 => TensorType::Q8_0,
            Self::Q6K => TensorType::Q6_K,
        }
    }

    /// Whether this type has every weight of embedding and head.
    pub(super) fn holds(self, model: &Model) -> bool {
        let head = match &model.head {
            Some(Linear::Float(head)) => Some(&head.weight),
            _ => None,
        };
        [&model.embedding].into_iter().chain(head).all(|matrix| self.holds_matrix(matrix))
    }

    fn holds_matrix(self, matrix: &FloatMatrix) -> bool {
        let rounded: fn(f32) -> f32 = match self {
            Self::F16 => |w| f16::from_f32(w).to_f32(),
            Self::BF16 => |w| bf16::from_f32(w).to_f32(),
            Self::Q8_0 | Self::Q6K => return false,
        };
        let mut row = vec![0.0; matrix.cols()];
        (0..matrix.rows()).all(|index| {
            matrix.read_row(index, &mut row);
            row.iter().all(|&w| rounded(w) == w)
        })
    }

    /// The matrix in this type; `None` when a weight is beyond it.
    pub(super) fn encode(self, matrix: &FloatMatrix) -> Option<Vec<u8>> {
        let mut row = vec![0.0; matrix.cols()];
        let mut out = Vec::new();
        for index in 0..matrix.rows() {
            matrix.read_row(index, &mut row);
            // A block would round it to some number.
            if row.iter().any(|w| !w.is_finite()) {
                return None;
            }
            match self {
                Self::F16 => out.extend(row.iter().flat_map(|&w| f16::from_f32(w).to_le_bytes())),
                Self::BF16 => out.extend(row.iter().flat_map(|&w| bf16::from_f32(w).to_le_bytes())),
                Self::Q8_0 => row.chunks_exact(BLOCK).for_each(|block| q8_0(block, &mut out)),
                Self::Q6K => row.chunks_exact(q6_k::BLOCK).for_each(|block| q6_k::q6_k(block, &mut out)),
            }
        }
        let half = |block: &[u8], at: usize| f16::from_le_bytes([block[at], block[at + 1]]);
        let is_sound = match self {
            Self::F16 => out.as_chunks().0.iter().all(|&w| f16::from_le_bytes(w).is_finite()),
            Self::BF16 => out.as_chunks().0.iter().all(|&w| bf16::from_le_bytes(w).is_finite()),
            Self::Q8_0 => out.chunks_exact(BLOCK + 2).all(|block| half(block, 0).is_finite()),
            Self::Q6K => out.chunks_exact(q6_k::BYTES).all(|block| half(block, q6_k::BYTES - 2).is_finite()),
        };
        is_sound.then_some(out)
    }
}

/// `scale = max|w| / 127` as float16, then `round(w / scale)`, halves away from zero. Source: llama.cpp,
/// `quantize_row_q8_0_ref`.
fn q8_0(block: &[f32], out: &mut Vec<u8>) {
    let scale = block.iter().fold(0.0_f32, |max, w| max.max(w.abs())) / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    out.extend(f16::from_f32(scale).to_le_bytes());
    out.extend(block.iter().map(|w| (w * inverse).round() as i8 as u8));
}

impl FromStr for HeadType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|head| head.name() == name).ok_or_else(|| Error::InvalidOption {
            name: "head",
            expected: "f16, bf16, q8_0 or q6_k",
            got: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_the_message_lists_them_all() {
        for head in HeadType::ALL {
            assert_eq!(head.name().parse::<HeadType>().unwrap(), head);
        }
        let error = "q4_k".parse::<HeadType>().unwrap_err().to_string();
        assert!(HeadType::ALL.iter().all(|head| error.contains(head.name())), "{error}");
    }
}
