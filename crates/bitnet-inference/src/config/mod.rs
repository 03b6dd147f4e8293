//! What `config.json` and `generation_config.json`, or the keys of a GGUF file, say; checked.

mod activations;
mod gguf;
mod positions;
mod raw;
mod reader;

use std::ops::Range;

pub use self::activations::ActivationMode;
use self::raw::{RawConfig, RawGeneration};
use self::reader::Reader;
use crate::Result;
use crate::activation::Activation;
use crate::architecture::Architecture;
use crate::checkpoint::Checkpoint;
use crate::module_patterns::ModulePatterns;
use crate::rope::RopeScaling;

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";

/// What a stored `weight_scale` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleSense {
    /// `W = codes * weight_scale` (`linear_class: autobitlinear`).
    Multiply,
    /// `W = codes / weight_scale` (`linear_class: bitlinear`, or none given).
    Divide,
}

impl ScaleSense {
    /// What a code of 1 stands for.
    pub fn scale(self, stored: f64) -> f32 {
        match self {
            Self::Multiply => stored as f32,
            // In float64, and rounded once.
            Self::Divide => (1.0 / stored) as f32,
        }
    }

    /// What is stored for a `scale`, as exactly as float64 can.
    pub fn stored(self, scale: f32) -> f64 {
        match self {
            Self::Multiply => scale.into(),
            Self::Divide => 1.0 / f64::from(scale),
        }
    }
}

/// What the stored weights are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightForm {
    /// Packed ternary codes (`quantization_mode: offline`).
    Packed,
    /// Float masters, ternarised when they are loaded (`quantization_mode: online`).
    Master,
    /// Floats that are ternary already, `codes * scale`: no `quantization_config` asks for more.
    Ternary,
}

/// How the linears of the checkpoint are quantized.
#[derive(Debug, Clone)]
pub struct QuantizationConfig {
    /// Sense of the stored scales.
    pub scale_sense: ScaleSense,
    /// What the config says of the weights, if it says anything.
    pub form: Option<WeightForm>,
    /// Modules that stay ordinary float linears (`modules_to_not_convert`); without a list, the head alone.
    pub not_converted: ModulePatterns,
    /// The norms in front of each projection, when the checkpoint has them.
    pub input_norm: Option<ProjectionNorm>,
    /// What the activations in front of ternary linears are.
    pub activations: ActivationMode,
}

/// A norm in front of each projection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProjectionNorm {
    /// What follows the name of the projection in the name of the tensor.
    pub name: &'static str,
    /// Added to the mean square.
    pub eps: f32,
}

/// Layers that see neighbouring positions alone.
#[derive(Debug, Clone)]
pub struct LocalAttention {
    /// Which layers do, where the config lists them.
    pub listed: Option<Vec<bool>>,
    /// Else all but every so manyth.
    pub pattern: usize,
    /// How many positions a token sees, its own among them.
    pub window: usize,
    /// Base of their rotary frequencies.
    pub rope_theta: f64,
    /// How these are stretched.
    pub rope_scaling: RopeScaling,
}

impl QuantizationConfig {
    /// Whether the linear `name` (without `.weight`) is to be ternary.
    pub fn converts(&self, name: &str) -> bool {
        !self.not_converted.matches(name)
    }
}

/// A decoder-only transformer, as its checkpoint describes it.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The architecture.
    pub architecture: &'static Architecture,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward network.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Nonlinearity of the feed-forward network.
    pub activation: Activation,
    /// Factor of embeddings, where there is one.
    pub embedding_scale: Option<f32>,
    /// Factor of the scores of queries and keys.
    pub score_scale: f32,
    /// Positions the model was built for.
    pub context_length: usize,
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// Layers that see neighbouring positions alone, where there are such.
    pub local: Option<LocalAttention>,
    /// Whether the head is the embedding; `None` when the config leaves it to the tensors.
    pub tied_head: Option<bool>,
    /// Whether q, k, v and o have biases.
    pub attention_bias: bool,
    /// Whether gate, up and down have biases.
    pub mlp_bias: bool,
    /// How the linears are quantized.
    pub quantization: QuantizationConfig,
    /// First token of a text.
    pub bos: Option<u32>,
    /// Tokens that end a text: those of both config files.
    pub eos: Vec<u32>,
}

impl ModelConfig {
    /// Reads and checks what a checkpoint says of its model.
    ///
    /// Errors: [`crate::Error::Config`] for a value that is missing or cannot be,
    /// [`crate::Error::UnknownArchitecture`].
    pub fn read(checkpoint: &Checkpoint) -> Result<Self> {
        let has_tensor = |name: &str| checkpoint.tensor_names().any(|stored| stored == name);
        let reader = Reader { path: checkpoint.file_path(CONFIG), has_tensor: &has_tensor };
        if let Some(gguf) = checkpoint.gguf() {
            let mut config = reader.config(gguf::read(gguf)?, None)?;
            gguf::read_rope_factors(gguf, &mut config)?;
            return Ok(config);
        }
        let raw: RawConfig = checkpoint.json(CONFIG)?.ok_or_else(|| reader.error("is missing".to_owned()))?;
        let generation: Option<RawGeneration> = checkpoint.json(GENERATION_CONFIG)?;
        reader.config(raw, generation)
    }

    /// What a layer does differently, if it sees neighbouring positions alone.
    pub(crate) fn local(&self, layer: usize) -> Option<&LocalAttention> {
        self.local.as_ref().filter(|local| match &local.listed {
            Some(listed) => listed[layer],
            None => !(layer + 1).is_multiple_of(local.pattern),
        })
    }

    /// The same for some neighbouring layers alone.
    pub(crate) fn part(&self, layers: Range<usize>) -> Self {
        let local = self.local.clone().map(|local| LocalAttention {
            listed: Some(layers.clone().map(|layer| self.local(layer).is_some()).collect()),
            ..local
        });
        Self { layers: layers.len(), local, ..self.clone() }
    }
}
