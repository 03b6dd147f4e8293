//! From named tensors to a [`Model`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use bitnet_core::{DType, FloatMatrix, Tensor, ThreadPool};
use bitnet_quant::{BitLinear, InputNorm, TernaryMatrix, quantize_weights};

use super::{Attention, Block, EMBEDDING, FloatLinear, HEAD, Linear, Mlp, Model};
use crate::checkpoint::gguf::ternarised;
use crate::checkpoint::{Checkpoint, EncodedTernary, Stored};
use crate::config::{CONFIG, ModelConfig, ScaleSense, WeightForm};
use crate::{Error, Result};

impl Model {
    /// Builds the model of a checkpoint. Packed weights stay where they are mapped; masters are ternarised with the
    /// threads of `pool`.
    ///
    /// Errors: a tensor that is missing, has the wrong shape or type, is not finite, or that nothing asks for.
    pub fn load(checkpoint: &Checkpoint, pool: &ThreadPool) -> Result<Self> {
        let config = ModelConfig::read(checkpoint)?;
        let loader =
            Loader { checkpoint, config: &config, pool, used: RefCell::default(), stored: Cell::default() };
        let stored = loader.tensor(EMBEDDING)?;
        let embedding = loader.as_matrix(EMBEDDING, &stored, config.vocab_size, config.hidden_size)?;
        let blocks = (0..config.layers).map(|index| loader.block(index)).collect::<Result<_>>()?;
        let norm = loader.vector("model.norm.weight", config.hidden_size)?;
        let head = loader.head(&stored)?;
        loader.refuse_unused()?;
        let stored = loader.stored.get().unwrap_or(WeightForm::Master);
        Ok(Self { config, stored, embedding, blocks, norm, head })
    }
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a ModelConfig,
    pool: &'a ThreadPool,
    used: RefCell<BTreeSet<String>>,
    /// The form of the first ternary weight; all others must have it.
    stored: Cell<Option<WeightForm>>,
}

impl Loader<'_> {
    fn error(&self, name: &str, fact: impl std::fmt::Display) -> Error {
        let stored = self.checkpoint.stored_name(name);
        Error::checkpoint(self.checkpoint.tensor_path(name), format!("tensor {stored}: {fact}"))
    }

    fn find(&self, name: &str) -> Result<Option<Stored>> {
        let tensor = self.checkpoint.tensor(name)?;
        if tensor.is_some() {
            self.used.borrow_mut().insert(name.to_owned());
        }
        Ok(tensor)
    }

    fn tensor(&self, name: &str) -> Result<Stored> {
        self.find(name)?.ok_or_else(|| Error::MissingTensor {
            path: self.checkpoint.tensor_path(name),
            name: self.checkpoint.stored_name(name).into_owned(),
        })
    }

    /// The numbers of a tensor that must have this shape.
    fn plain<'t>(&self, name: &str, stored: &'t Stored, expected: &[usize]) -> Result<&'t Tensor> {
        let dims = stored.dims();
        if dims != expected {
            return Err(self.error(name, format!("has shape {dims:?}; the config asks for {expected:?}")));
        }
        match stored {
            Stored::Plain(tensor) => Ok(tensor),
            Stored::Encoded(_) => {
                Err(self.error(name, format!("is {}; the model needs floats here", stored.type_name())))
            }
        }
    }

    fn block(&self, index: usize) -> Result<Block> {
        let c = self.config;
        let prefix = format!("model.layers.{index}");
        let attention = format!("{prefix}.self_attn");
        let mlp = format!("{prefix}.mlp");
        let (hidden, inner) = (c.hidden_size, c.intermediate_size);
        let (q_rows, kv_rows) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let sub_norm =
            |name: String, len| c.architecture.has_sub_norms.then(|| self.vector(&name, len)).transpose();
        let (a_bias, m_bias) = (c.attention_bias, c.mlp_bias);
        Ok(Block {
            attention: Attention {
                norm: self.vector(&format!("{prefix}.input_layernorm.weight"), hidden)?,
                q: self.linear(&format!("{attention}.q_proj"), q_rows, hidden, a_bias)?,
                k: self.linear(&format!("{attention}.k_proj"), kv_rows, hidden, a_bias)?,
                v: self.linear(&format!("{attention}.v_proj"), kv_rows, hidden, a_bias)?,
                sub_norm: sub_norm(format!("{attention}.attn_sub_norm.weight"), q_rows)?,
                o: self.linear(&format!("{attention}.o_proj"), hidden, q_rows, a_bias)?,
            },
            mlp: Mlp {
                norm: self.vector(&format!("{prefix}.post_attention_layernorm.weight"), hidden)?,
                gate: self.linear(&format!("{mlp}.gate_proj"), inner, hidden, m_bias)?,
                up: self.linear(&format!("{mlp}.up_proj"), inner, hidden, m_bias)?,
                sub_norm: sub_norm(format!("{mlp}.ffn_sub_norm.weight"), inner)?,
                down: self.linear(&format!("{mlp}.down_proj"), hidden, inner, m_bias)?,
            },
        })
    }

    /// The head, unless it is the embedding: when the config says so, or is silent and no head is stored.
    fn head(&self, embedding: &Stored) -> Result<Option<Linear>> {
        let stored = self.find("lm_head.weight")?;
        let is_tied = match (self.config.tied_head, &stored) {
            // transformers does not tie a stored head that differs from the embedding.
            (Some(true), Some(head)) => head.data()[..] == embedding.data()[..],
            (Some(tied), _) => tied,
            (None, stored) => stored.is_none(),
        };
        if is_tied {
            return Ok(None);
        }
        let weight = stored.map_or_else(|| self.tensor("lm_head.weight"), Ok)?;
        let (rows, cols) = (self.config.vocab_size, self.config.hidden_size);
        // Packed models keep the head as floats whatever the config says; only its type tells.
        let is_ternary = match self.stored.get() {
            Some(WeightForm::Master) => self.config.quantization.converts(HEAD),
            _ => form(&weight) == WeightForm::Packed,
        };
        let load = if is_ternary { Self::ternary_linear } else { Self::float_linear };
        load(self, HEAD, rows, cols, false).map(Some)
    }

    fn linear(&self, name: &str, rows: usize, cols: usize, has_bias: bool) -> Result<Linear> {
        if !self.config.quantization.converts(name) {
            return self.float_linear(name, rows, cols, has_bias);
        }
        self.ternary_linear(name, rows, cols, has_bias)
    }

    fn ternary_linear(&self, name: &str, rows: usize, cols: usize, has_bias: bool) -> Result<Linear> {
        let weight = self.ternary_weight(name, rows, cols)?;
        let mut bias = has_bias.then(|| self.vector(&format!("{name}.bias"), rows)).transpose()?;
        if self.checkpoint.gguf().is_none()
            && self.stored.get() == Some(WeightForm::Packed)
            && self.config.quantization.scale_sense == ScaleSense::Multiply
        {
            // transformers' AutoBitLinear multiplies the biased product of packed codes by the scale.
            bias.iter_mut().flatten().for_each(|bias| *bias *= weight.scale());
        }
        let norm = match self.config.quantization.input_norm_eps {
            Some(eps) => {
                Some(InputNorm { weight: self.vector(&format!("{name}.rms_norm.weight"), cols)?, eps })
            }
            None => None,
        };
        let linear = BitLinear::new(weight, bias, norm)
            .map_err(|error| self.error(&format!("{name}.weight"), error))?;
        Ok(Linear::Ternary(linear))
    }

    fn float_linear(&self, name: &str, rows: usize, cols: usize, has_bias: bool) -> Result<Linear> {
        let weight = self.float_matrix(&format!("{name}.weight"), rows, cols)?;
        let bias = has_bias.then(|| self.vector(&format!("{name}.bias"), rows)).transpose()?;
        Ok(Linear::Float(FloatLinear { weight, bias }))
    }

    fn ternary_weight(&self, linear: &str, rows: usize, cols: usize) -> Result<TernaryMatrix> {
        let name = format!("{linear}.weight");
        let stored = self.tensor(&name)?;
        let form = form(&stored);
        if let Some(said) = self.config.quantization.form.filter(|said| *said != form) {
            return Err(Error::config(
                self.checkpoint.file_path(CONFIG),
                format!(
                    "quantization_mode says the weights are {}, but tensor {name} is {}",
                    if said == WeightForm::Packed { "packed (offline)" } else { "float masters (online)" },
                    stored.type_name()
                ),
            ));
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
        let matrix = encoded.decode(self.pool).map_err(|error| self.error(name, error))?;
        // The products take no more than one scale.
        matrix.one_scale().map_err(|error| self.error(name, error))?;
        Ok(matrix)
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
        if let Some(matrix) = self.checkpoint.gguf().and_then(|_| ternarised::exact(&master)) {
            return Ok(matrix);
        }
        quantize_weights(self.pool, rows, cols, |row, out| master.read_row(row, out))
            .map_err(|error| self.error(name, error))
    }

    fn float_matrix(&self, name: &str, rows: usize, cols: usize) -> Result<FloatMatrix> {
        self.as_matrix(name, &self.tensor(name)?, rows, cols)
    }

    fn as_matrix(&self, name: &str, stored: &Stored, rows: usize, cols: usize) -> Result<FloatMatrix> {
        let tensor = self.plain(name, stored, &[rows, cols])?;
        FloatMatrix::new(tensor).map_err(|error| self.error(name, error))
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let stored = self.tensor(name)?;
        let values = self.plain(name, &stored, &[len])?.to_f32().map_err(|error| self.error(name, error))?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(self.error(name, format!("element {at} is not finite"))),
            None => Ok(values),
        }
    }

    fn scalar(&self, name: &str) -> Result<f64> {
        let stored = self.tensor(name)?;
        let dims = stored.dims();
        if !matches!(dims[..], [] | [1]) {
            return Err(self.error(name, format!("has shape {dims:?}; a scale is one number")));
        }
        let tensor = self.plain(name, &stored, &dims)?;
        if tensor.dtype() == DType::F64 {
            return Ok(tensor.data().typed::<f64>()[0]);
        }
        let values = tensor.to_f32().map_err(|error| self.error(name, error))?;
        Ok(values[0].into())
    }

    /// A tensor that nothing asked for means that config and tensors disagree: a bias, a norm or a layer would be
    /// left out silently. Old files also store the rotary frequencies, which follow from the config.
    fn refuse_unused(&self) -> Result<()> {
        let used = self.used.borrow();
        let is_unused = |name: &&str| !used.contains(*name) && !name.ends_with(".rotary_emb.inv_freq");
        match self.checkpoint.tensor_names().find(is_unused) {
            Some(name) => Err(self.error(name, "nothing in the config asks for it")),
            None => Ok(()),
        }
    }
}

/// What the weights of a linear are: codes, or masters.
fn form(stored: &Stored) -> WeightForm {
    match stored {
        Stored::Plain(tensor) if tensor.dtype() != DType::U8 => WeightForm::Master,
        Stored::Plain(_) | Stored::Encoded(_) => WeightForm::Packed,
    }
}
