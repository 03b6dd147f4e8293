//! Decoders of checkpoints, and new ones.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use bitnet_core::{DType, Tensor};
use bitnet_inference::checkpoint::Stored;
use bitnet_inference::config::{ActivationMode, ModelConfig};
use bitnet_inference::model::adapter::AdapterConfig;
use bitnet_inference::model::{EMBEDDING, HEAD, Linear as LoadedLinear};
use bitnet_inference::rope::RopeTable;
use bitnet_inference::{Checkpoint, Model};

use super::adapted::Adapting;
use super::{Attention, Block, Decoder, Mlp, Projection};
use crate::nn::{BitLinear, Embedding, Initializer, Linear, Parameter, RmsNorm};
use crate::{Error, Result};

impl Decoder {
    /// The model of a float checkpoint: the master of a ternary model, or one in full precision.
    ///
    /// Errors: [`Error::Unsupported`] for packed weights and for what only other architectures have, [`Error::Inference`],
    /// [`Error::MissingTensor`], [`Error::Shape`], [`Error::NotFinite`].
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let config = ModelConfig::read(checkpoint)?;
        let used = RefCell::new(BTreeSet::new());
        let read = |name: &str, dims: &[usize]| {
            used.borrow_mut().insert(name.to_owned());
            read(checkpoint, name, dims)
        };
        let has_head = match config.tied_head {
            Some(is_tied) => !is_tied,
            None => checkpoint.tensor(&format!("{HEAD}.weight"))?.is_some(),
        };
        // A head may be stored although it is the embedding.
        if !has_head {
            used.borrow_mut().insert(format!("{HEAD}.weight"));
        }
        let decoder = Builder { config: &config, source: &read, adapting: None }.decoder(has_head)?;
        let used = used.borrow();
        match checkpoint.tensor_names().find(|name| !used.contains(*name)) {
            Some(name) => Err(Error::Unsupported { what: format!("a model with the tensor {name}") }),
            None => Ok(decoder),
        }
    }

    /// A new model: weights of the deviation 0.02, norms of 1.
    ///
    /// Errors: [`Error::Unsupported`].
    pub fn new(config: &ModelConfig, seed: u64) -> Result<Self> {
        let random = RefCell::new(Initializer::new(seed));
        let draw = |_: &str, dims: &[usize]| match dims {
            [len] => Initializer::ones(*len),
            _ => random.borrow_mut().normal(dims, 0.02),
        };
        Builder { config, source: &draw, adapting: None }.decoder(config.tied_head == Some(false))
    }

    /// The model of a checkpoint, packed or a master, which stays as it is, with a new adapter beside each projection,
    /// drawn by `seed`. `model` is the checkpoint's, loaded.
    ///
    /// Errors: [`Error::Unsupported`] for what is not trained; [`bitnet_quant::Error::Granularity`] for matrices of
    /// several scales; [`Error::Inference`], [`Error::NotFinite`].
    pub fn adapted(
        checkpoint: &Checkpoint,
        model: &Model,
        config: &AdapterConfig,
        seed: u64,
    ) -> Result<Self> {
        let read = |name: &str, dims: &[usize]| read(checkpoint, name, dims);
        let adapting = Adapting::new(model, config, seed);
        if matches!(model.head, Some(LoadedLinear::Ternary(_))) {
            return Err(Error::Unsupported { what: "a ternary head".to_owned() });
        }
        let builder = Builder { config: &model.config, source: &read, adapting: Some(&adapting) };
        builder.decoder(model.head.is_some())
    }
}

fn read(checkpoint: &Checkpoint, name: &str, dims: &[usize]) -> Result<Tensor> {
    let stored = checkpoint.tensor(name)?.ok_or_else(|| Error::MissingTensor(name.to_owned()))?;
    let tensor = match stored {
        Stored::Plain(tensor) if tensor.dtype().is_float() => tensor.to_dtype(DType::F32)?,
        other => {
            let what =
                format!("packed weights: {name} is {}; convert the model to bf16 first", other.type_name());
            return Err(Error::Unsupported { what });
        }
    };
    if tensor.dims() != dims {
        let (expected, got) = (dims.to_vec().into(), tensor.shape().clone());
        return Err(Error::Shape { what: name.to_owned(), expected, got });
    }
    if tensor.data().typed::<f32>().iter().any(|x| !x.is_finite()) {
        return Err(Error::NotFinite(format!("an element of {name}")));
    }
    Ok(tensor)
}

/// The parts of a decoder, from wherever their parameters come.
struct Builder<'a> {
    config: &'a ModelConfig,
    /// The value of a parameter by its Hugging Face name and its shape.
    source: &'a dyn Fn(&str, &[usize]) -> Result<Tensor>,
    /// What makes the projections where adapters alone are trained.
    adapting: Option<&'a Adapting<'a>>,
}

impl Builder<'_> {
    fn decoder(&self, has_head: bool) -> Result<Decoder> {
        self.check()?;
        let c = self.config;
        if has_head && self.adapting.is_none() && c.quantization.converts(HEAD) {
            return Err(Error::Unsupported { what: "a ternary head".to_owned() });
        }
        let table = (self.source)(EMBEDDING, &[c.vocab_size, c.hidden_size])?;
        let rope = RopeTable::new(c.rope_theta, &c.rope_scaling, c.head_dim, c.context_length);
        Ok(Decoder {
            embedding: Embedding { weight: self.parameter(EMBEDDING, table, Parameter::undecayed)? },
            blocks: (0..c.layers).map(|layer| self.block(layer)).collect::<Result<_>>()?,
            norm: self.norm("model.norm", c.hidden_size)?,
            head: has_head.then(|| self.linear(HEAD, c.vocab_size, c.hidden_size)).transpose()?,
            rope: Arc::new(rope),
            config: c.clone(),
        })
    }

    /// What the forward pass here does not compute.
    fn check(&self) -> Result<()> {
        let c = self.config;
        let refused = [
            (c.quantization.input_norm.is_some(), "norms in front of each projection"),
            (c.attention_bias || c.mlp_bias, "biases of projections"),
            (c.local.is_some(), "layers that see neighbouring positions alone"),
            (c.embedding_scale.is_some(), "scaled embeddings"),
            (c.architecture.norms.offset != 0.0, "norms with an offset"),
        ];
        match refused.into_iter().find(|(is_there, _)| *is_there) {
            Some((_, what)) => Err(Error::Unsupported { what: what.to_owned() }),
            None => Ok(()),
        }
    }

    fn block(&self, layer: usize) -> Result<Block> {
        let c = self.config;
        let norms = &c.architecture.norms;
        let (hidden, inner) = (c.hidden_size, c.intermediate_size);
        let (q_width, kv_width) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let norm = |name: &str, width| self.norm(&format!("model.layers.{layer}.{name}"), width);
        let optional = |name: Option<&str>, width| name.map(|name| norm(name, width)).transpose();
        let of_heads = |name| optional(norms.has_heads.then_some(name), c.head_dim);
        let linear = |name: &str, outputs, inputs| {
            self.projection(&format!("model.layers.{layer}.{name}"), outputs, inputs)
        };
        Ok(Block {
            attention: Attention {
                norm: norm(norms.attention, hidden)?,
                q: linear("self_attn.q_proj", q_width, hidden)?,
                k: linear("self_attn.k_proj", kv_width, hidden)?,
                v: linear("self_attn.v_proj", kv_width, hidden)?,
                q_norm: of_heads("self_attn.q_norm")?,
                k_norm: of_heads("self_attn.k_norm")?,
                sub_norm: optional(norms.attention_sub, q_width)?,
                o: linear("self_attn.o_proj", hidden, q_width)?,
                post_norm: optional(norms.attention_post, hidden)?,
                head_dim: c.head_dim,
                scale: c.score_scale,
            },
            mlp: Mlp {
                norm: norm(norms.mlp, hidden)?,
                gate: linear("mlp.gate_proj", inner, hidden)?,
                up: linear("mlp.up_proj", inner, hidden)?,
                sub_norm: optional(norms.mlp_sub, inner)?,
                down: linear("mlp.down_proj", hidden, inner)?,
                post_norm: optional(norms.mlp_post, hidden)?,
                activation: c.activation,
            },
        })
    }

    fn norm(&self, name: &str, width: usize) -> Result<RmsNorm> {
        let name = format!("{name}.weight");
        let value = (self.source)(&name, &[width])?;
        let weight = self.parameter(&name, value, Parameter::undecayed)?;
        Ok(RmsNorm { weight, eps: self.config.rms_norm_eps })
    }

    /// Ordinary where the config exempts it, and throughout a model whose activations stay floats: its weights are what they
    /// are.
    fn projection(&self, name: &str, outputs: usize, inputs: usize) -> Result<Projection> {
        if let Some(adapting) = self.adapting {
            return adapting.projection(name, [outputs, inputs], self.source);
        }
        let linear = self.linear(name, outputs, inputs)?;
        let quantization = &self.config.quantization;
        if quantization.activations == ActivationMode::Int8 && quantization.converts(name) {
            return Ok(Projection::Bit(BitLinear { weight: linear.weight, bias: linear.bias }));
        }
        Ok(Projection::Float(linear))
    }

    fn linear(&self, name: &str, outputs: usize, inputs: usize) -> Result<Linear> {
        let name = format!("{name}.weight");
        let value = (self.source)(&name, &[outputs, inputs])?;
        Ok(Linear { weight: self.parameter(&name, value, Parameter::decayed)?, bias: None })
    }

    /// A parameter that is trained, unless adapters alone are.
    fn parameter(
        &self,
        name: &str,
        value: Tensor,
        trained: impl Fn(String, Tensor) -> Result<Parameter>,
    ) -> Result<Parameter> {
        if self.adapting.is_some() { Parameter::frozen(name, value) } else { trained(name.to_owned(), value) }
    }
}
