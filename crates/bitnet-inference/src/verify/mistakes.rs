//! The mistakes that conversions make, and models with a mistake undone.

use bitnet_core::{Buffer, ThreadPool};
use bitnet_quant::{BitLinear, Codec, TernaryMatrix};

use crate::Result;
use crate::activation::Activation;
use crate::checkpoint::gguf::RowOrder;
use crate::config::WeightForm;
use crate::model::{Block, Linear, Model};

/// A mistake that leaves a checkpoint that loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Scales that divide taken for ones that multiply, or the other way.
    ScaleSense,
    /// Ternary weights quantized a second time: each scale times the share of weights that are not 0.
    QuantizedTwice,
    /// `SiLU` for `ReLU^2`, or the other way.
    Activation,
    /// `I2_S` in groups of 64 read as groups of 128.
    I2SArm,
    /// `I2_S` in groups of 128 read as groups of 64.
    I2S,
    /// Rows of queries and keys left in the order of llama.cpp.
    Permuted,
    /// Rows of queries and keys brought out of the order of llama.cpp, in which they were not.
    Unpermuted,
}

impl Mistake {
    /// Every mistake.
    pub const ALL: [Self; 7] = [
        Self::ScaleSense,
        Self::QuantizedTwice,
        Self::Activation,
        Self::I2SArm,
        Self::I2S,
        Self::Permuted,
        Self::Unpermuted,
    ];

    /// Name of its check.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScaleSense => "scale sense",
            Self::QuantizedTwice => "quantized once",
            Self::Activation => "activation",
            Self::I2SArm | Self::I2S => "I2_S groups",
            Self::Permuted | Self::Unpermuted => "q/k rows",
        }
    }

    /// What undoes it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::ScaleSense => "scales inverted",
            Self::QuantizedTwice => "scales divided by the share of nonzero weights",
            Self::Activation => "the other activation",
            Self::I2SArm => "I2_S read in groups of 64",
            Self::I2S => "I2_S read in groups of 128",
            Self::Permuted => "query and key rows taken out of llama.cpp's order",
            Self::Unpermuted => "query and key rows put into llama.cpp's order",
        }
    }

    /// The model without the mistake; `None` where it cannot have been made.
    pub(super) fn undo(self, model: &Model, pool: &ThreadPool) -> Result<Option<Model>> {
        // Those who make these mistakes write one scale for each matrix.
        if model.ternary_linears().any(|(_, linear)| linear.weight().one_scale().is_err()) {
            return Ok(None);
        }
        let mut model = model.clone();
        match self {
            // Scales of floats are made at load.
            Self::ScaleSense if model.stored != WeightForm::Packed => return Ok(None),
            Self::ScaleSense => scale(&mut model, |_, scale| 1.0 / scale)?,
            Self::QuantizedTwice => scale(&mut model, |weight, scale| scale / nonzero_share(weight))?,
            Self::Activation => {
                model.config.activation = match model.config.activation {
                    Activation::Relu2 => Activation::Silu,
                    Activation::Silu | Activation::Gelu | Activation::GeluTanh => Activation::Relu2,
                }
            }
            Self::I2SArm => return regroup(model, pool, Codec::I2S, Codec::I2SArm),
            Self::I2S => return regroup(model, pool, Codec::I2SArm, Codec::I2S),
            Self::Permuted => reorder(&mut model, RowOrder::HuggingFace)?,
            Self::Unpermuted => reorder(&mut model, RowOrder::LlamaCpp)?,
        }
        Ok(Some(model))
    }
}

/// Gives every ternary linear of the blocks other weights.
fn replace(model: &mut Model, mut weight: impl FnMut(&TernaryMatrix) -> Result<TernaryMatrix>) -> Result<()> {
    for linear in model.blocks.iter_mut().flat_map(Block::linears_mut) {
        if let Linear::Ternary(ternary) = linear {
            let bias = ternary.bias().map(<[f32]>::to_vec);
            *ternary = BitLinear::new(weight(ternary.weight())?, bias, ternary.norm().cloned())?;
        }
    }
    Ok(())
}

fn scale(model: &mut Model, scale: impl Fn(&TernaryMatrix, f32) -> f32) -> Result<()> {
    replace(model, |weight| Ok(weight.clone().with_scales(scale(weight, weight.one_scale()?))?))
}

fn nonzero_share(weight: &TernaryMatrix) -> f32 {
    let nonzero: usize =
        (0..weight.rows()).map(|row| weight.row_codes(row).filter(|code| *code != 0).count()).sum();
    nonzero.max(1) as f32 / (weight.rows() * weight.cols()) as f32
}

/// Reads every matrix in a layout other than the one it is written in.
fn regroup(mut model: Model, pool: &ThreadPool, written: Codec, read: Codec) -> Result<Option<Model>> {
    let fits = |linear: &BitLinear| {
        let (rows, cols) = (linear.weight().rows(), linear.weight().cols());
        written.byte_len(rows, cols).is_ok() && read.byte_len(rows, cols).is_ok()
    };
    if !model.ternary_linears().all(|(_, linear)| fits(linear)) {
        return Ok(None);
    }
    replace(&mut model, |weight| {
        let bytes = Buffer::from(written.encode(pool, weight)?);
        Ok(read.decode(pool, weight.rows(), weight.cols(), &bytes)?)
    })?;
    Ok(Some(model))
}

/// Brings the rows of queries and keys from the other order `to` this one.
fn reorder(model: &mut Model, to: RowOrder) -> Result<()> {
    let head_dim = model.config.head_dim;
    for block in &mut model.blocks {
        for linear in [&mut block.attention.q, &mut block.attention.k] {
            let Linear::Ternary(ternary) = linear else { continue };
            let weight = ternary.weight();
            let source = |row: usize| row - row % head_dim + to.source(row % head_dim, head_dim);
            let codes: Vec<i8> = (0..weight.rows()).flat_map(|row| weight.row_codes(source(row))).collect();
            let bias = ternary.bias().map(|bias| (0..bias.len()).map(|row| bias[source(row)]).collect());
            let scale = weight.one_scale()?;
            let weight = TernaryMatrix::from_codes(weight.rows(), weight.cols(), &codes, scale)?;
            *ternary = BitLinear::new(weight, bias, ternary.norm().cloned())?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Makes the mistake of [`Mistake::QuantizedTwice`].
    pub(in crate::verify) fn quantize_again(model: &mut Model) {
        scale(model, |weight, scale| scale * nonzero_share(weight)).unwrap();
    }
}
