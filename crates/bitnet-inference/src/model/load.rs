//! From named tensors to a [`Model`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use bitnet_core::{DType, FloatMatrix, Tensor, ThreadPool};
use bitnet_quant::{BitLinear, InputNorm, TernaryMatrix, quantize_weights};

use super::{Attention, Block, FloatLinear, Linear, Mlp, Model};
use crate::checkpoint::Checkpoint;
use crate::config::{ModelConfig, ScaleSense, WeightForm, config_path};
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
        let embedding =
            loader.float_matrix("model.embed_tokens.weight", config.vocab_size, config.hidden_size)?;
        let blocks = (0..config.layers).map(|index| loader.block(index)).collect::<Result<_>>()?;
        let norm = loader.vector("model.norm.weight", config.hidden_size)?;
        let head = loader.head(loader.tensor("model.embed_tokens.weight")?)?;
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
        Error::checkpoint(self.checkpoint.tensor_path(name), format!("tensor {name}: {fact}"))
    }

    fn find(&self, name: &str) -> Option<&Tensor> {
        let tensor = self.checkpoint.tensor(name)?;
        self.used.borrow_mut().insert(name.to_owned());
        Some(tensor)
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.find(name).ok_or_else(|| Error::MissingTensor {
            path: self.checkpoint.tensor_path(name),
            name: name.to_owned(),
        })
    }

    fn expect_dims(&self, name: &str, tensor: &Tensor, expected: &[usize]) -> Result<()> {
        if tensor.dims() == expected {
            return Ok(());
        }
        Err(self.error(name, format!("has shape {:?}; the config asks for {expected:?}", tensor.dims())))
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
    fn head(&self, embedding: &Tensor) -> Result<Option<Linear>> {
        let stored = self.find("lm_head.weight");
        let is_tied = match (self.config.tied_head, stored) {
            // transformers does not tie a stored head that differs from the embedding.
            (Some(true), Some(head)) => head.data()[..] == embedding.data()[..],
            (Some(tied), _) => tied,
            (None, stored) => stored.is_none(),
        };
        if is_tied {
            return Ok(None);
        }
        let weight = self.tensor("lm_head.weight")?;
        let (rows, cols) = (self.config.vocab_size, self.config.hidden_size);
        // Packed models keep the head as floats whatever the config says; only its type tells.
        let is_ternary = match self.stored.get() {
            Some(WeightForm::Master) => self.config.quantization.converts("lm_head"),
            _ => weight.dtype() == DType::U8,
        };
        let load = if is_ternary { Self::ternary_linear } else { Self::float_linear };
        load(self, "lm_head", rows, cols, false).map(Some)
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
        if self.stored.get() == Some(WeightForm::Packed)
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
        let tensor = self.tensor(&name)?;
        let form = if tensor.dtype() == DType::U8 { WeightForm::Packed } else { WeightForm::Master };
        if let Some(said) = self.config.quantization.form.filter(|said| *said != form) {
            return Err(Error::config(
                config_path(self.checkpoint.path()),
                format!(
                    "quantization_mode says the weights are {}, but tensor {name} is {}",
                    if said == WeightForm::Packed { "packed (offline)" } else { "float masters (online)" },
                    tensor.dtype()
                ),
            ));
        }
        if self.stored.replace(Some(form)).is_some_and(|first| first != form) {
            return Err(self.error(&name, format!("is {}; other linears are not", tensor.dtype())));
        }
        match form {
            WeightForm::Packed => self.packed_weight(linear, &name, tensor, rows, cols),
            WeightForm::Master => self.master_weight(&name, rows, cols),
        }
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
        let scale = match self.config.quantization.scale_sense {
            ScaleSense::Multiply => stored,
            ScaleSense::Divide => 1.0 / stored,
        };
        if !(stored.is_finite() && stored > 0.0) {
            return Err(self.error(&scale_name, bitnet_quant::Error::InvalidScale(stored)));
        }
        TernaryMatrix::from_packed(rows, cols, tensor.data().clone(), scale)
            .map_err(|error| self.error(name, error))
    }

    fn master_weight(&self, name: &str, rows: usize, cols: usize) -> Result<TernaryMatrix> {
        let master = self.float_matrix(name, rows, cols)?;
        quantize_weights(self.pool, rows, cols, |row, out| master.read_row(row, out))
            .map_err(|error| self.error(name, error))
    }

    fn float_matrix(&self, name: &str, rows: usize, cols: usize) -> Result<FloatMatrix> {
        let tensor = self.tensor(name)?;
        self.expect_dims(name, tensor, &[rows, cols])?;
        FloatMatrix::new(tensor).map_err(|error| self.error(name, error))
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        self.expect_dims(name, tensor, &[len])?;
        let values = tensor.to_f32().map_err(|error| self.error(name, error))?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(self.error(name, format!("element {at} is not finite"))),
            None => Ok(values),
        }
    }

    fn scalar(&self, name: &str) -> Result<f32> {
        let tensor = self.tensor(name)?;
        if !matches!(tensor.dims(), [] | [1]) {
            return Err(self.error(name, format!("has shape {:?}; a scale is one number", tensor.dims())));
        }
        let values = tensor.to_f32().map_err(|error| self.error(name, error))?;
        Ok(values[0])
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
