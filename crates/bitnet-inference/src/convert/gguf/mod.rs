//! Any checkpoint as a GGUF file, its codes and scales untouched.
//!
//! `keys` says what `config.json` and the tokenizer say, `tensors` names the tensors, `parts` divides them into files.

mod keys;
mod parts;
mod tensors;

use std::path::Path;

use bitnet_core::ThreadPool;
use bitnet_quant::Codec;
use half::f16;

use self::parts::Parts;
use self::tensors::Tensors;
use super::head::HeadType;
use super::losses::Losses;
use super::{ConvertOptions, Converted, Progress};
use crate::checkpoint::gguf::{TensorType, Writer};
use crate::model::Model;
use crate::{Checkpoint, Result};

/// How the ternary matrices of a GGUF file are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GgufWeights {
    /// `I2_S`, 2 bits: bitnet.cpp.
    I2S,
    /// `TQ2_0`, 2.06 bits: llama.cpp.
    Tq2_0,
    /// `TQ1_0`, 1.69 bits: llama.cpp.
    Tq1_0,
}

impl GgufWeights {
    /// Every encoding that is written.
    pub const ALL: [Self; 3] = [Self::I2S, Self::Tq2_0, Self::Tq1_0];

    /// Name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::I2S => "gguf-i2_s",
            Self::Tq2_0 => "gguf-tq2_0",
            Self::Tq1_0 => "gguf-tq1_0",
        }
    }

    fn tensor_type(self) -> TensorType {
        match self {
            Self::I2S => TensorType::I2_S,
            Self::Tq2_0 => TensorType::TQ2_0,
            Self::Tq1_0 => TensorType::TQ1_0,
        }
    }

    fn codec(self) -> Codec {
        match self {
            Self::I2S => Codec::I2S,
            Self::Tq2_0 => Codec::Tq2_0,
            Self::Tq1_0 => Codec::Tq1_0,
        }
    }

    /// `general.file_type`.
    fn file_type(self) -> usize {
        match self {
            Self::I2S => 40,
            Self::Tq1_0 => 36,
            Self::Tq2_0 => 37,
        }
    }
}

/// What to write.
#[derive(Debug, Clone, Copy)]
struct GgufTarget {
    weights: GgufWeights,
    head: HeadType,
}

/// Writes a model as a GGUF file or several, with tokenizer and chat template. Codes are kept, and every block has the
/// scale of its matrix, so that nothing is quantized twice. A file appears when it is whole.
///
/// Errors: [`crate::Error::Checkpoint`] for what the format cannot hold, such as a linear that is not ternary;
/// [`crate::Error::Lossy`], [`crate::Error::Tokenizer`], [`crate::Error::Io`].
pub(super) fn write(
    checkpoint: &Checkpoint,
    model: &Model,
    path: &Path,
    weights: GgufWeights,
    options: &ConvertOptions,
    pool: &ThreadPool,
    mut progress: Progress<'_>,
) -> Result<Converted> {
    let mut losses = Losses::default();
    let head = options.head.unwrap_or_else(|| head_type(model, pool, &mut losses));
    let target = GgufTarget { weights, head };
    let tensors = Tensors::of(checkpoint, model, target)?;
    for tensor in &tensors {
        let is_rounded = |scale: &f32| f16::from_f32(*scale).to_f32() != *scale;
        if weights != GgufWeights::I2S && tensor.scales().iter().any(is_rounded) {
            losses.add(&tensor.name, "has a scale that float16 rounds");
        }
    }
    let lost = losses.accept(checkpoint.path(), options.lossy)?;
    let mut first = Writer::default();
    keys::write(&mut first, checkpoint, &model.config, weights)?;
    let parts = Parts::plan(path, first, &tensors, options.shard_bytes)?;
    let files = parts.count();
    progress.all = parts.tensor_bytes();
    parts.write(|index| {
        let bytes = tensors[index].bytes(checkpoint, target, pool)?;
        progress.add(bytes.len())?;
        Ok(bytes)
    })?;
    Ok(Converted {
        to: options.to,
        embedding: head.name(),
        tensors: tensors.len(),
        ternary: model.ternary_linears().count(),
        files,
        tensor_bytes: progress.done,
        lost,
    })
}

/// The first type that holds every weight of embedding and head.
fn head_type(model: &Model, pool: &ThreadPool, losses: &mut Losses) -> HeadType {
    let types = [HeadType::F16, HeadType::BF16];
    types.into_iter().find(|head_type| head_type.holds(model, pool)).unwrap_or_else(|| {
        losses.add("token_embd.weight", "has weights that float16 rounds");
        HeadType::F16
    })
}
