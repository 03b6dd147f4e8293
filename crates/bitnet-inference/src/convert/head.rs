//! Float matrices as GGUF stores them: the embedding and the head.

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use bitnet_core::{FloatMatrix, ThreadPool};
use half::{bf16, f16};

use super::q6_k::q6_k;
use crate::checkpoint::gguf::TensorType;
use crate::model::{Linear, Model};
use crate::{Error, Result};

/// Weights of a block of `Q8_0`.
const Q8_0_BLOCK: usize = 32;

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
    pub(super) fn holds(self, model: &Model, pool: &ThreadPool) -> bool {
        let head = match &model.head {
            Some(Linear::Float(head)) => Some(&head.weight),
            _ => None,
        };
        [&model.embedding].into_iter().chain(head).all(|matrix| self.holds_matrix(matrix, pool))
    }

    fn holds_matrix(self, matrix: &FloatMatrix, pool: &ThreadPool) -> bool {
        let rounded: fn(f32) -> f32 = match self {
            Self::F16 => |w| f16::from_f32(w).to_f32(),
            Self::BF16 => |w| bf16::from_f32(w).to_f32(),
            Self::Q8_0 | Self::Q6K => return false,
        };
        let holds = AtomicBool::new(true);
        pool.split(matrix.rows(), 1, |rows| {
            let mut row = vec![0.0; matrix.cols()];
            for index in rows {
                if !holds.load(Ordering::Relaxed) {
                    return;
                }
                matrix.read_row(index, &mut row);
                if row.iter().any(|&w| rounded(w) != w) {
                    holds.store(false, Ordering::Relaxed);
                }
            }
        });
        holds.into_inner()
    }

    /// The matrix in this type, its rows whole blocks; `None` when a weight is beyond it.
    pub(super) fn encode(self, matrix: &FloatMatrix, pool: &ThreadPool) -> Option<Vec<u8>> {
        let (block, block_bytes) = self.tensor_type().block();
        let row_bytes = matrix.cols() / block * block_bytes;
        let mut out = vec![0; matrix.rows() * row_bytes];
        let is_sound = AtomicBool::new(true);
        pool.split_rows(&mut out, row_bytes, |rows, out| {
            let mut row = vec![0.0; matrix.cols()];
            for (index, out) in rows.zip(out.chunks_exact_mut(row_bytes)) {
                matrix.read_row(index, &mut row);
                // A block would round what is not finite to some number.
                if row.iter().any(|w| !w.is_finite()) || !self.encode_row(&row, out) {
                    is_sound.store(false, Ordering::Relaxed);
                }
            }
        });
        is_sound.into_inner().then_some(out)
    }

    /// False when a weight, or the scale of a block, is beyond the type.
    fn encode_row(self, row: &[f32], out: &mut [u8]) -> bool {
        match self {
            Self::F16 => row.iter().zip(out.as_chunks_mut().0).all(|(&w, out)| {
                let half = f16::from_f32(w);
                *out = half.to_le_bytes();
                half.is_finite()
            }),
            Self::BF16 => row.iter().zip(out.as_chunks_mut().0).all(|(&w, out)| {
                let half = bf16::from_f32(w);
                *out = half.to_le_bytes();
                half.is_finite()
            }),
            Self::Q8_0 => {
                row.as_chunks().0.iter().zip(out.as_chunks_mut().0).all(|(block, out)| q8_0(block, out))
            }
            Self::Q6K => {
                row.as_chunks().0.iter().zip(out.as_chunks_mut().0).all(|(block, out)| q6_k(block, out))
            }
        }
    }
}

/// `scale = max|w| / 127` as float16, then `round(w / scale)`, halves away from zero; false when the scale is beyond
/// float16. Source: llama.cpp, `quantize_row_q8_0_ref`.
fn q8_0(block: &[f32; Q8_0_BLOCK], out: &mut [u8; Q8_0_BLOCK + 2]) -> bool {
    let scale = block.iter().fold(0.0_f32, |max, w| max.max(w.abs())) / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let stored = f16::from_f32(scale);
    let (head, codes) = out.split_at_mut(2);
    head.copy_from_slice(&stored.to_le_bytes());
    for (code, w) in codes.iter_mut().zip(block) {
        *code = (w * inverse).round() as i8 as u8;
    }
    stored.is_finite()
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
    use bitnet_core::Tensor;

    use super::*;

    #[test]
    fn threads_change_no_byte() {
        let (rows, cols) = (37, 512);
        let weights: Vec<f32> = (0..rows * cols).map(|i| ((i * 31 % 97) as f32 - 48.0) / 64.0).collect();
        let matrix = |weights: &[f32]| {
            FloatMatrix::new(&Tensor::from_vec(weights.to_vec(), [rows, cols]).unwrap()).unwrap()
        };
        let pools = [1, 3].map(|threads| ThreadPool::new(threads).unwrap());
        let mut too_large = weights.clone();
        too_large[20 * cols + 7] = 1e9;
        for head in HeadType::ALL {
            let [one, three] = pools.each_ref().map(|pool| head.encode(&matrix(&weights), pool).unwrap());
            assert_eq!(one, three, "{}", head.name());
            let is_beyond = pools.each_ref().map(|pool| head.encode(&matrix(&too_large), pool).is_none());
            assert_eq!(is_beyond, [head != HeadType::BF16; 2], "{}", head.name());
            let holds = pools.each_ref().map(|pool| head.holds_matrix(&matrix(&weights), pool));
            assert_eq!(holds, [matches!(head, HeadType::F16 | HeadType::BF16); 2], "{}", head.name());
        }
    }

    #[test]
    fn names_round_trip_and_the_message_lists_them_all() {
        for head in HeadType::ALL {
            assert_eq!(head.name().parse::<HeadType>().unwrap(), head);
        }
        let error = "q4_k".parse::<HeadType>().unwrap_err().to_string();
        assert!(HeadType::ALL.iter().all(|head| error.contains(head.name())), "{error}");
    }
}
