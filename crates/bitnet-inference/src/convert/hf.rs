//! Any checkpoint as a Hugging Face folder: packed codes in both scale senses, or float masters.
//!
//! What is not a ternary matrix is copied as it is stored. A scale is stored in the first of bfloat16, float32 and
//! float64 that gives it back exactly; only reciprocals ever need the last.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bitnet_core::{Buffer, DType, FloatMatrix, Tensor};
use bitnet_quant::{BitLinear, TernaryMatrix};
use half::{bf16, f16};

use super::losses::Losses;
use super::master::Master;
use super::safetensors::Spec;
use crate::checkpoint::{Checkpoint, Stored};
use crate::config::{ScaleSense, WeightForm};
use crate::model::{EMBEDDING, HEAD, Model};
use crate::{Error, Result};

/// How a Hugging Face folder holds the ternary matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HfForm {
    /// Packed, with scales that multiply (`autobitlinear`): microsoft/bitnet-b1.58-2B-4T.
    Multiply,
    /// Packed, with scales that divide (`bitlinear`): Falcon-E, Llama3-8B-1.58.
    Divide,
    /// Masters in bfloat16 that are ternarised at load (`online`): microsoft/bitnet-b1.58-2B-4T-bf16.
    Master,
}

impl HfForm {
    /// Name of the form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Multiply => "hf",
            Self::Divide => "hf-bitlinear",
            Self::Master => "bf16",
        }
    }
}

/// The tensors of a folder, in order, and where their bytes come from.
pub(super) struct Tensors<'m> {
    pub(super) specs: Vec<Spec>,
    contents: Vec<Content<'m>>,
}

enum Content<'m> {
    /// Bytes that are there.
    Stored(Buffer),
    /// Numbers in another type.
    Cast(Tensor),
    /// A master that is made of codes.
    Master(Master, &'m TernaryMatrix),
}

/// What is stored in another type.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Types {
    /// Of embedding and head, where it changes.
    pub(super) head: Option<DType>,
    /// See [`super::ConvertOptions::bf16_scales`].
    pub(super) bf16_scales: bool,
}

/// What goes where.
struct Planner<'m, 'l> {
    checkpoint: &'m Checkpoint,
    form: HfForm,
    types: Types,
    ternary: BTreeMap<String, &'m BitLinear>,
    /// Whether the source stores biases that its scales multiply.
    has_scaled_biases: bool,
    losses: &'l mut Losses,
    tensors: Tensors<'m>,
}

impl<'m> Tensors<'m> {
    /// The tensors of `model`, whose source is `checkpoint`.
    pub(super) fn of(
        checkpoint: &'m Checkpoint,
        model: &'m Model,
        form: HfForm,
        types: Types,
        losses: &mut Losses,
    ) -> Result<Self> {
        let is_packed_folder = checkpoint.gguf().is_none() && model.stored == WeightForm::Packed;
        let mut planner = Planner {
            checkpoint,
            form,
            types,
            ternary: model.ternary_linears().collect(),
            has_scaled_biases: is_packed_folder
                && model.config.quantization.scale_sense == ScaleSense::Multiply,
            losses,
            tensors: Self { specs: Vec::new(), contents: Vec::new() },
        };
        let has_head = model.head.is_some();
        // A head that is the embedding may be stored a second time; frequencies of old files follow from the config.
        let is_needed = |name: &&str| {
            (has_head || !name.starts_with("lm_head.")) && !name.ends_with(".rotary_emb.inv_freq")
        };
        for name in checkpoint.tensor_names().filter(is_needed) {
            planner.add(name)?;
        }
        Ok(planner.tensors)
    }

    /// The bytes of a tensor.
    pub(super) fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let spec = &self.specs[index];
        match &self.contents[index] {
            Content::Stored(buffer) => Ok(Cow::Borrowed(&**buffer)),
            Content::Master(master, matrix) => Ok(Cow::Owned(master.bytes(matrix))),
            Content::Cast(tensor) => match cast(&tensor.to_f32()?, spec.dtype) {
                Some(bytes) => Ok(Cow::Owned(bytes)),
                None => Err(Error::checkpoint(&spec.name, format!("has a weight beyond {}", spec.dtype))),
            },
        }
    }
}

impl<'m> Planner<'m, '_> {
    fn push(&mut self, name: &str, dtype: DType, dims: Vec<usize>, content: Content<'m>) {
        self.tensors.specs.push(Spec { name: name.to_owned(), dtype, dims });
        self.tensors.contents.push(content);
    }

    fn add(&mut self, name: &str) -> Result<()> {
        let (module, part) = name.rsplit_once('.').unwrap_or((name, ""));
        if let Some(&linear) = self.ternary.get(module) {
            match part {
                "weight" if self.form == HfForm::Master => return self.master(name, linear),
                "weight" => return self.packed(module, linear),
                "weight_scale" => return Ok(()),
                "bias" => return self.bias(name, linear),
                _ => {}
            }
        }
        let tensor = self.plain(name)?;
        match self.types.head.filter(|_| name == EMBEDDING || module == HEAD) {
            Some(dtype) if dtype != tensor.dtype() => {
                self.push(name, dtype, tensor.dims().to_vec(), Content::Cast(tensor));
            }
            _ => self.copy(name, &tensor),
        }
        Ok(())
    }

    fn plain(&self, name: &str) -> Result<Tensor> {
        match self.checkpoint.tensor(name)? {
            Some(Stored::Plain(tensor)) => Ok(tensor),
            stored => {
                let fact = stored
                    .map_or_else(|| "is missing".to_owned(), |stored| format!("is {}", stored.type_name()));
                Err(Error::checkpoint(self.checkpoint.tensor_path(name), format!("tensor {name}: {fact}")))
            }
        }
    }

    /// A tensor as it is; of a GGUF file, which has its vectors in float32, in bfloat16 where that holds it.
    fn copy(&mut self, name: &str, tensor: &Tensor) {
        let dims = tensor.dims().to_vec();
        let narrow = (self.checkpoint.gguf().is_some() && tensor.dtype() == DType::F32)
            .then(|| tensor.to_f32().ok().and_then(|values| exact(&values, DType::BF16)))
            .flatten();
        match narrow {
            Some(bytes) => self.push(name, DType::BF16, dims, Content::Stored(bytes.into())),
            None => self.push(name, tensor.dtype(), dims, Content::Stored(tensor.data().clone())),
        }
    }

    /// The scale that a packed matrix has in a sense.
    fn scale(&self, matrix: &TernaryMatrix, sense: ScaleSense) -> Result<f32> {
        let scale = matrix.one_scale()?;
        let rounded = bf16::from_f64(sense.stored(scale)).to_f64();
        Ok(if self.types.bf16_scales { sense.scale(rounded) } else { scale })
    }

    fn packed(&mut self, module: &str, linear: &'m BitLinear) -> Result<()> {
        let matrix = linear.weight();
        let sense = if self.form == HfForm::Divide { ScaleSense::Divide } else { ScaleSense::Multiply };
        let (dtype, scale) = stored_scale(sense, self.scale(matrix, sense)?);
        let dims = vec![matrix.packed_rows(), matrix.cols()];
        self.push(&format!("{module}.weight"), DType::U8, dims, Content::Stored(matrix.packed().clone()));
        self.push(&format!("{module}.weight_scale"), dtype, vec![1], Content::Stored(scale.into()));
        Ok(())
    }

    fn master(&mut self, name: &str, linear: &'m BitLinear) -> Result<()> {
        let (matrix, dims) = (linear.weight(), vec![linear.weight().rows(), linear.weight().cols()]);
        if let Some(tensor) = self.stored_master(name)? {
            if tensor.dtype() == DType::BF16 {
                self.push(name, DType::BF16, dims, Content::Stored(tensor.data().clone()));
                return Ok(());
            }
            if exact(&tensor.to_f32()?, DType::BF16).is_none() {
                self.losses.add(name, "has masters that bfloat16 rounds, and some codes with them");
            }
            self.push(name, DType::BF16, dims, Content::Cast(tensor));
            return Ok(());
        }
        let scale = matrix.one_scale()?;
        let master = Master::of(matrix, scale).unwrap_or_else(|| {
            self.losses.add(name, "there is no bfloat16 master with just this scale");
            Master::near(matrix, scale)
        });
        self.push(name, DType::BF16, dims, Content::Master(master, matrix));
        Ok(())
    }

    /// The master of the source, if that is what it stores. A GGUF file may hold ternary weights as floats, whose mean
    /// is not their scale.
    fn stored_master(&self, name: &str) -> Result<Option<Tensor>> {
        let Some(Stored::Plain(tensor)) = self.checkpoint.tensor(name)? else { return Ok(None) };
        if tensor.dtype() == DType::U8 {
            return Ok(None);
        }
        let is_ternarised = self.checkpoint.gguf().is_some()
            && crate::model::exact::exact(&FloatMatrix::new(&tensor)?).is_some();
        Ok((!is_ternarised).then_some(tensor))
    }

    /// Packed folders whose scales multiply have them multiply the biases, too.
    fn bias(&mut self, name: &str, linear: &'m BitLinear) -> Result<()> {
        let is_scaled = self.form == HfForm::Multiply;
        if is_scaled == self.has_scaled_biases {
            let tensor = self.plain(name)?;
            self.copy(name, &tensor);
            return Ok(());
        }
        let mut bias = linear.bias().unwrap_or_default().to_vec();
        if is_scaled {
            let scale = self.scale(linear.weight(), ScaleSense::Multiply)?;
            for value in &mut bias {
                *value = divided(*value, scale).unwrap_or_else(|| {
                    self.losses.add(name, "has a bias that is no float32 times the scale");
                    *value / scale
                });
            }
        }
        let (dtype, bytes) = match exact(&bias, DType::BF16) {
            Some(bytes) => (DType::BF16, bytes),
            None => (DType::F32, bias.iter().flat_map(|value| value.to_le_bytes()).collect()),
        };
        self.push(name, dtype, vec![bias.len()], Content::Stored(bytes.into()));
        Ok(())
    }
}

/// The stored form of a scale: the narrowest float that a reader makes exactly `scale` of.
fn stored_scale(sense: ScaleSense, scale: f32) -> (DType, Vec<u8>) {
    let wide = sense.stored(scale);
    let (half, single) = (bf16::from_f64(wide), wide as f32);
    if sense.scale(half.to_f64()) == scale {
        (DType::BF16, half.to_le_bytes().to_vec())
    } else if sense.scale(single.into()) == scale {
        (DType::F32, single.to_le_bytes().to_vec())
    } else {
        (DType::F64, wide.to_le_bytes().to_vec())
    }
}

/// A float32 that times `scale` is `value`.
fn divided(value: f32, scale: f32) -> Option<f32> {
    let quotient = value / scale;
    let near = [quotient, quotient.next_down(), quotient.next_up()];
    near.into_iter().find(|near| near * scale == value)
}

/// The values in another type, if it holds them all.
fn exact(values: &[f32], dtype: DType) -> Option<Vec<u8>> {
    let is_held = |value: &f32| match dtype {
        DType::F16 => f16::from_f32(*value).to_f32() == *value,
        DType::BF16 => bf16::from_f32(*value).to_f32() == *value,
        _ => dtype == DType::F32,
    };
    values.iter().all(is_held).then(|| cast(values, dtype)).flatten()
}

/// The values rounded to another type; `None` when one is beyond it.
fn cast(values: &[f32], dtype: DType) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(values.len() * dtype.size_bytes());
    for &value in values {
        let rounded = match dtype {
            DType::F16 => {
                let half = f16::from_f32(value);
                bytes.extend(half.to_le_bytes());
                half.to_f32()
            }
            DType::BF16 => {
                let half = bf16::from_f32(value);
                bytes.extend(half.to_le_bytes());
                half.to_f32()
            }
            _ => {
                bytes.extend(value.to_le_bytes());
                value
            }
        };
        if rounded.is_finite() != value.is_finite() {
            return None;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(sense: ScaleSense, dtype: DType, bytes: &[u8]) -> f32 {
        let stored = match dtype {
            DType::BF16 => bf16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
            DType::F32 => f32::from_le_bytes(bytes.try_into().unwrap()).into(),
            _ => f64::from_le_bytes(bytes.try_into().unwrap()),
        };
        sense.scale(stored)
    }

    proptest! {
        #[test]
        fn every_scale_comes_back(
            scale in prop::num::f32::POSITIVE | prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL,
        ) {
            let scale = scale.abs();
            for sense in [ScaleSense::Multiply, ScaleSense::Divide] {
                let (dtype, bytes) = stored_scale(sense, scale);
                prop_assert_eq!(read(sense, dtype, &bytes), scale);
                prop_assert!(dtype != DType::F64 || sense == ScaleSense::Divide);
            }
        }

        #[test]
        fn a_quotient_multiplies_back(value in -1e3_f32..1e3, scale in 1e-3_f32..1e3) {
            if let Some(quotient) = divided(value, scale) {
                prop_assert_eq!(quotient * scale, value);
            }
        }
    }

    #[test]
    fn scales_are_stored_as_narrow_as_can_be() {
        let dtype = |sense, scale| stored_scale(sense, scale).0;
        assert_eq!(dtype(ScaleSense::Multiply, 1.5), DType::BF16);
        assert_eq!(dtype(ScaleSense::Multiply, 0.1), DType::F32);
        assert_eq!(dtype(ScaleSense::Divide, 0.25), DType::BF16);
        // What a file with bfloat16 scales gives back.
        assert_eq!(dtype(ScaleSense::Divide, ScaleSense::Divide.scale(1.3125)), DType::BF16);
        // Between sqrt(2) and 2 there are more float32 numbers than reciprocals of them.
        let wide =
            (0..1000).filter(|i| dtype(ScaleSense::Divide, 1.9 + *i as f32 * 1e-6) == DType::F64).count();
        assert!((100..900).contains(&wide), "{wide}");
    }
}
