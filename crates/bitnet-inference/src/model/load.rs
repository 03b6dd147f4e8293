//! From named tensors to a [`Model`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use bitnet_core::{DType, FloatMatrix, Tensor, ThreadPool};

use super::linears::stored_form;
use super::{Attention, Block, EMBEDDING, HEAD, LINEARS, Linear, Mlp, Model};
use crate::checkpoint::{Checkpoint, Stored};
use crate::config::{ActivationMode, CONFIG, ModelConfig, WeightForm};
use crate::module_patterns::ModulePatterns;
use crate::{Error, Result};

impl Model {
    /// Builds the model of a checkpoint. Packed weights stay where they are mapped; masters are ternarised with the
    /// threads of `pool`.
    ///
    /// Errors: a tensor that is missing, has the wrong shape or type, is not finite, or that nothing asks for.
    pub fn load(checkpoint: &Checkpoint, pool: &ThreadPool) -> Result<Self> {
        Self::with_config(checkpoint, ModelConfig::read(checkpoint)?, pool)
    }

    /// The model of a float checkpoint with every linear as it is stored, ternary or not: what quantized ones are
    /// measured against.
    ///
    /// Errors: as [`Self::load`]; [`Error::PackedWeights`], norms in front of each projection.
    pub fn load_floats(checkpoint: &Checkpoint, pool: &ThreadPool) -> Result<Self> {
        let mut config = ModelConfig::read(checkpoint)?;
        let first = format!("model.layers.0.{}.weight", LINEARS[0]);
        if checkpoint.tensor(&first)?.is_some_and(|stored| stored_form(&stored) == WeightForm::Packed) {
            return Err(Error::PackedWeights { path: checkpoint.tensor_path(&first) });
        }
        if config.quantization.input_norm.is_some() {
            let reason = "norms in front of each projection: such models do not run as plain floats";
            return Err(Error::config(checkpoint.file_path(CONFIG), reason));
        }
        config.quantization.not_converted = ModulePatterns::everything();
        Self::with_config(checkpoint, config, pool)
    }

    /// As [`Self::load`], and a plain float model with its linears made ternary by absmean in front of int8
    /// activations, whatever that does to it.
    ///
    /// Errors: as [`Self::load`].
    pub fn load_ternarized(checkpoint: &Checkpoint, pool: &ThreadPool) -> Result<Self> {
        let mut config = ModelConfig::read(checkpoint)?;
        if config.quantization.form == Some(WeightForm::Ternary) {
            // Without a quantization_config, floats that are ternary already stay what they are; of others, whatever
            // else is wrong with them is wrong once more below.
            if let Ok(model) = Self::with_config(checkpoint, config.clone(), pool) {
                return Ok(model);
            }
            config.quantization.form = Some(WeightForm::Master);
            config.quantization.activations = ActivationMode::Int8;
        }
        Self::with_config(checkpoint, config, pool)
    }

    fn with_config(checkpoint: &Checkpoint, config: ModelConfig, pool: &ThreadPool) -> Result<Self> {
        let loader =
            Loader { checkpoint, config: &config, pool, used: RefCell::default(), stored: Cell::default() };
        let stored = loader.tensor(EMBEDDING)?;
        let embedding = loader.as_matrix(EMBEDDING, &stored, config.vocab_size, config.hidden_size)?;
        let blocks = (0..config.layers).map(|index| loader.block(index)).collect::<Result<_>>()?;
        let norm = loader.norm("model.norm.weight", config.hidden_size)?;
        let head = loader.head(&stored)?;
        loader.refuse_unused()?;
        let stored = loader.stored.get().unwrap_or(WeightForm::Master);
        let mut model =
            Self { config, stored, decisions: Vec::new(), embedding, blocks, norm, head, adapter: None };
        model.decide_activations();
        Ok(model)
    }
}

pub(super) struct Loader<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) config: &'a ModelConfig,
    pub(super) pool: &'a ThreadPool,
    used: RefCell<BTreeSet<String>>,
    /// The form of the first ternary weight; all others must have it.
    pub(super) stored: Cell<Option<WeightForm>>,
}

impl Loader<'_> {
    pub(super) fn error(&self, name: &str, fact: impl std::fmt::Display) -> Error {
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

    pub(super) fn tensor(&self, name: &str) -> Result<Stored> {
        self.find(name)?.ok_or_else(|| Error::MissingTensor {
            path: self.checkpoint.tensor_path(name),
            name: self.checkpoint.stored_name(name).into_owned(),
        })
    }

    /// The numbers of a tensor that must have this shape.
    pub(super) fn plain<'t>(&self, name: &str, stored: &'t Stored, expected: &[usize]) -> Result<&'t Tensor> {
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
        let (a_bias, m_bias) = (c.attention_bias, c.mlp_bias);
        let norms = &c.architecture.norms;
        let norm = |name: &str, len| self.norm(&format!("{prefix}.{name}.weight"), len);
        let optional = |name: Option<&str>, len| name.map(|name| norm(name, len)).transpose();
        let of_heads = |name| optional(norms.has_heads.then_some(name), c.head_dim);
        Ok(Block {
            attention: Attention {
                norm: norm(norms.attention, hidden)?,
                q: self.linear(&format!("{attention}.q_proj"), q_rows, hidden, a_bias)?,
                k: self.linear(&format!("{attention}.k_proj"), kv_rows, hidden, a_bias)?,
                v: self.linear(&format!("{attention}.v_proj"), kv_rows, hidden, a_bias)?,
                q_norm: of_heads("self_attn.q_norm")?,
                k_norm: of_heads("self_attn.k_norm")?,
                sub_norm: optional(norms.attention_sub, q_rows)?,
                o: self.linear(&format!("{attention}.o_proj"), hidden, q_rows, a_bias)?,
                post_norm: optional(norms.attention_post, hidden)?,
            },
            mlp: Mlp {
                norm: norm(norms.mlp, hidden)?,
                gate: self.linear(&format!("{mlp}.gate_proj"), inner, hidden, m_bias)?,
                up: self.linear(&format!("{mlp}.up_proj"), inner, hidden, m_bias)?,
                sub_norm: optional(norms.mlp_sub, inner)?,
                down: self.linear(&format!("{mlp}.down_proj"), hidden, inner, m_bias)?,
                post_norm: optional(norms.mlp_post, hidden)?,
            },
        })
    }

    /// A norm of the architecture, with what it adds to the stored weights.
    fn norm(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let mut weights = self.vector(name, len)?;
        let offset = self.config.architecture.norms.offset;
        if offset != 0.0 {
            for weight in &mut weights {
                *weight += offset;
            }
        }
        Ok(weights)
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
            _ => stored_form(&weight) == WeightForm::Packed,
        };
        let load = if is_ternary { Self::ternary_linear } else { Self::float_linear };
        load(self, HEAD, rows, cols, false).map(Some)
    }

    pub(super) fn float_matrix(&self, name: &str, rows: usize, cols: usize) -> Result<FloatMatrix> {
        self.as_matrix(name, &self.tensor(name)?, rows, cols)
    }

    pub(super) fn as_matrix(
        &self,
        name: &str,
        stored: &Stored,
        rows: usize,
        cols: usize,
    ) -> Result<FloatMatrix> {
        let tensor = self.plain(name, stored, &[rows, cols])?;
        FloatMatrix::new(tensor).map_err(|error| self.error(name, error))
    }

    pub(super) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let stored = self.tensor(name)?;
        let values = self.plain(name, &stored, &[len])?.to_f32().map_err(|error| self.error(name, error))?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(self.error(name, format!("element {at} is not finite"))),
            None => Ok(values),
        }
    }

    pub(super) fn scalar(&self, name: &str) -> Result<f64> {
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
