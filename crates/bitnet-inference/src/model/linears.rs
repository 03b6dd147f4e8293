//! The linears of a checkpoint, in the form they are stored in.

use bitnet_core::{DType, Tensor};
use bitnet_quant::{BitLinear, InputNorm, TernaryMatrix, quantize_weights};

use super::exact::exact;
use super::load::Loader;
use super::{FloatLinear, Linear};
use crate::checkpoint::{EncodedTernary, Stored};
use crate::config::{CONFIG, ScaleSense, WeightForm};
use crate::{Error, Result};

impl Loader<'_> {
    pub(super) fn linear(&self, name: &str, rows: usize, cols: usize, has_bias: bool) -> Result<Linear> {
        if !self.config.quantization.converts(name) {
            return self.float_linear(name, rows, cols, has_bias);
        }
        self.ternary_linear(name, rows, cols, has_bias)
    }

    pub(super) fn ternary_linear(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        has_bias: bool,
    ) -> Result<Linear> {
        let weight = self.ternary_weight(name, rows, cols)?;
        let mut bias = has_bias.then(|| self.vector(&format!("{name}.bias"), rows)).transpose()?;
        if self.checkpoint.gguf().is_none()
            && self.stored.get() == Some(WeightForm::Packed)
            && self.config.quantization.scale_sense == ScaleSense::Multiply
        {
            // transformers' AutoBitLinear multiplies the biased product of packed codes by the scale.
            let scale = weight.one_scale()?;
            bias.iter_mut().flatten().for_each(|bias| *bias *= scale);
        }
        let norm = match self.config.quantization.input_norm {
            Some(norm) => {
                let weight = self.vector(&format!("{name}.{}.weight", norm.name), cols)?;
                Some(InputNorm { weight, eps: norm.eps })
            }
            None => None,
        };
        let linear = BitLinear::new(weight, bias, norm)
            .map_err(|error| self.error(&format!("{name}.weight"), error))?;
        Ok(Linear::Ternary(linear))
    }

    pub(super) fn float_linear(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        has_bias: bool,
    ) -> Result<Linear> {
        let weight = self.float_matrix(&format!("{name}.weight"), rows, cols)?;
        let bias = has_bias.then(|| self.vector(&format!("{name}.bias"), rows)).transpose()?;
        Ok(Linear::Float(FloatLinear { weight, bias }))
    }

    fn ternary_weight(&self, linear: &str, rows: usize, cols: usize) -> Result<TernaryMatrix> {
        let name = format!("{linear}.weight");
        let stored = self.tensor(&name)?;
        let said = self.config.quantization.form;
        let form = match (stored_form(&stored), said) {
            (WeightForm::Master, Some(WeightForm::Ternary)) => WeightForm::Ternary,
            (form, _) => form,
        };
        if let Some(said) = said.filter(|said| *said != form) {
            return Err(self.contradiction(&name, &stored, said));
        }
        if self.stored.replace(Some(form)).is_some_and(|first| first != form) {
            return Err(self.error(&name, format!("is {}; other linears are not", stored.type_name())));
        }
        match (form, stored) {
            (_, Stored::Encoded(encoded)) => self.encoded_weight(&name, &encoded, rows, cols),
            (WeightForm::Packed, Stored::Plain(tensor)) => {
                self.packed_weight(linear, &name, &tensor, rows, cols)
            }
            (WeightForm::Master, stored) => self.master_weight(&name, &stored, rows, cols),
            (WeightForm::Ternary, stored) => self.exact_weight(&name, &stored, rows, cols),
        }
    }

    fn encoded_weight(
        &self,
        name: &str,
        encoded: &EncodedTernary,
        rows: usize,
        cols: usize,
    ) -> Result<TernaryMatrix> {
        let dims = [encoded.rows, encoded.cols];
        if dims != [rows, cols] {
            return Err(
                self.error(name, format!("has shape {dims:?}; the config asks for {:?}", [rows, cols]))
            );
        }
        encoded.decode(self.pool).map_err(|error| self.error(name, error))
    }

    fn packed_weight(
        &self,
        linear: &str,
        name: &str,
        tensor: &Tensor,
        rows: usize,
        cols: usize,
    ) -> Result<TernaryMatrix> {
        let packed_rows = rows.div_ceil(bitnet_quant::ternary::CODES_PER_BYTE);
        if tensor.dims() != [packed_rows, cols] {
            let fact = format!(
                "has shape {:?}; the config asks for {rows} rows, packed to [{packed_rows}, {cols}]",
                tensor.dims()
            );
            return Err(self.error(name, fact));
        }
        let scale_name = format!("{linear}.weight_scale");
        let stored = self.scalar(&scale_name)?;
        if !(stored.is_finite() && stored > 0.0) {
            return Err(self.error(&scale_name, bitnet_quant::Error::InvalidScale(stored as f32)));
        }
        let scale = self.config.quantization.scale_sense.scale(stored);
        TernaryMatrix::from_packed(rows, cols, tensor.data().clone(), scale)
            .map_err(|error| self.error(name, error))
    }

    fn master_weight(&self, name: &str, stored: &Stored, rows: usize, cols: usize) -> Result<TernaryMatrix> {
        let master = self.as_matrix(name, stored, rows, cols)?;
        if let Some(matrix) = self.checkpoint.gguf().and_then(|_| exact(&master)) {
            return Ok(matrix);
        }
        quantize_weights(self.pool, rows, cols, |row, out| master.read_row(row, out))
            .map_err(|error| self.error(name, error))
    }

    fn exact_weight(&self, name: &str, stored: &Stored, rows: usize, cols: usize) -> Result<TernaryMatrix> {
        exact(&self.as_matrix(name, stored, rows, cols)?).ok_or_else(|| {
            let family = self.config.architecture.name;
            let reason = format!(
                "has no quantization_config, and tensor {} is not ternary: a plain {family} model, not a BitNet one",
                self.checkpoint.stored_name(name)
            );
            Error::config(self.checkpoint.file_path(CONFIG), reason)
        })
    }

    /// A weight that is not what the config says.
    fn contradiction(&self, name: &str, stored: &Stored, said: WeightForm) -> Error {
        let name = self.checkpoint.stored_name(name);
        let says = match said {
            WeightForm::Packed => "quantization_mode says the weights are packed (offline)",
            WeightForm::Master => "quantization_mode says the weights are float masters (online)",
            WeightForm::Ternary => "has no quantization_config",
        };
        let reason = format!("{says}, but tensor {name} is {}", stored.type_name());
        Error::config(self.checkpoint.file_path(CONFIG), reason)
    }
}

/// What the weights of a linear are: codes, or floats.
pub(super) fn stored_form(stored: &Stored) -> WeightForm {
    match stored {
        Stored::Plain(tensor) if tensor.dtype() != DType::U8 => WeightForm::Master,
        Stored::Plain(_) | Stored::Encoded(_) => WeightForm::Packed,
    }
}
