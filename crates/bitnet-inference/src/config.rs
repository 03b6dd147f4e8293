//! What `config.json` and `generation_config.json` say, checked.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::model::Architecture;
use crate::module_patterns::ModulePatterns;
use crate::rope::RopeScaling;
use crate::{Error, Result};

const CONFIG: &str = "config.json";

/// The nonlinearity of the gated feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `relu(x)^2`
    Relu2,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `x (1 + erf(x / sqrt 2)) / 2`
    Gelu,
}

impl Activation {
    /// Name in `hidden_act`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu2 => "relu2",
            Self::Silu => "silu",
            Self::Gelu => "gelu",
        }
    }
}

/// What a stored `weight_scale` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleSense {
    /// `W = codes * weight_scale` (`linear_class: autobitlinear`).
    Multiply,
    /// `W = codes / weight_scale` (`linear_class: bitlinear`, or none given).
    Divide,
}

/// What the stored weights are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightForm {
    /// Packed ternary codes (`quantization_mode: offline`).
    Packed,
    /// Float masters, ternarised when they are loaded (`quantization_mode: online`).
    Master,
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
    /// `rms_norm_eps` of the norms in front of each projection, when the checkpoint has them.
    pub input_norm_eps: Option<f32>,
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
    /// Positions the model was built for.
    pub context_length: usize,
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched.
    pub rope_scaling: RopeScaling,
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

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Option<String>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    /// The form of transformers 5: theta and scaling in one object.
    rope_parameters: Option<RawRope>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    quantization_config: Option<RawQuantization>,
    bos_token_id: Option<OneOrMany>,
    eos_token_id: Option<OneOrMany>,
}

#[derive(Deserialize, Clone)]
struct RawRope {
    rope_type: Option<String>,
    /// The older name of `rope_type`.
    r#type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

#[derive(Deserialize)]
struct RawQuantization {
    quant_method: Option<String>,
    linear_class: Option<String>,
    quantization_mode: Option<String>,
    modules_to_not_convert: Option<Vec<String>>,
    #[serde(default)]
    use_rms_norm: bool,
    rms_norm_eps: Option<f64>,
}

#[derive(Deserialize)]
struct RawGeneration {
    eos_token_id: Option<OneOrMany>,
}

impl ModelConfig {
    /// Reads and checks the config files of a checkpoint.
    ///
    /// Errors: [`Error::Config`] for a value that is missing or cannot be, [`Error::UnknownArchitecture`].
    pub fn read(checkpoint: &Checkpoint) -> Result<Self> {
        let reader = Reader { path: checkpoint.file_path(CONFIG) };
        let raw: RawConfig = checkpoint.json(CONFIG)?.ok_or_else(|| reader.error("is missing".to_owned()))?;
        let generation: Option<RawGeneration> = checkpoint.json("generation_config.json")?;
        reader.config(raw, generation)
    }
}

/// Turns raw values into checked ones, with errors that name the file.
struct Reader {
    path: PathBuf,
}

impl Reader {
    fn error(&self, reason: String) -> Error {
        Error::config(self.path.clone(), reason)
    }

    fn config(&self, raw: RawConfig, generation: Option<RawGeneration>) -> Result<ModelConfig> {
        let architecture = Architecture::find(&self.path, raw.model_type.as_deref())?;
        let hidden_size = self.size("hidden_size", raw.hidden_size)?;
        let heads = self.size("num_attention_heads", raw.num_attention_heads)?;
        let kv_heads = self.size("num_key_value_heads", raw.num_key_value_heads.or(Some(heads)))?;
        let context_length =
            self.size("max_position_embeddings", raw.max_position_embeddings.or(Some(2048)))?;
        let (rope_theta, rope_scaling) = self.rope(
            architecture,
            raw.rope_theta,
            raw.rope_scaling.as_ref(),
            raw.rope_parameters.as_ref(),
            context_length,
        )?;
        let vocab_size = self.size("vocab_size", raw.vocab_size)?;
        let bos = raw.bos_token_id.and_then(|ids| ids.into_vec().first().copied());
        let mut eos = raw.eos_token_id.map(OneOrMany::into_vec).unwrap_or_default();
        eos.extend(generation.and_then(|raw| raw.eos_token_id).map(OneOrMany::into_vec).unwrap_or_default());
        eos.sort_unstable();
        eos.dedup();
        let config = ModelConfig {
            architecture,
            vocab_size,
            hidden_size,
            intermediate_size: self.size("intermediate_size", raw.intermediate_size)?,
            layers: self.size("num_hidden_layers", raw.num_hidden_layers)?,
            heads,
            kv_heads,
            head_dim: self.head_dim(raw.head_dim, hidden_size, heads)?,
            activation: self.activation(architecture, raw.hidden_act.as_deref())?,
            context_length,
            rms_norm_eps: self
                .eps("rms_norm_eps", raw.rms_norm_eps.unwrap_or(architecture.default_rms_norm_eps))?,
            rope_theta,
            rope_scaling,
            tied_head: raw.tie_word_embeddings,
            attention_bias: raw.attention_bias.unwrap_or(false),
            mlp_bias: architecture.has_mlp_bias && raw.mlp_bias.unwrap_or(false),
            quantization: self.quantization(architecture, raw.quantization_config)?,
            bos,
            eos,
        };
        self.check(&config)?;
        Ok(config)
    }

    fn check(&self, config: &ModelConfig) -> Result<()> {
        let ModelConfig { heads, kv_heads, head_dim, .. } = *config;
        if !heads.is_multiple_of(kv_heads) {
            return Err(self.error(format!(
                "num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
            )));
        }
        if !head_dim.is_multiple_of(2) {
            return Err(self.error(format!("head_dim {head_dim} is odd; rotary positions need pairs")));
        }
        let special = config.eos.iter().chain(&config.bos);
        if let Some(id) = special.copied().find(|&id| id as usize >= config.vocab_size) {
            return Err(
                self.error(format!("token id {id} is outside the vocabulary of {}", config.vocab_size))
            );
        }
        Ok(())
    }

    /// A dimension: present, positive, and small enough that products of a few of them fit a machine word.
    fn size(&self, name: &str, value: Option<usize>) -> Result<usize> {
        match value {
            None => Err(self.error(format!("{name} is missing"))),
            Some(value @ 1..=0x7fff_ffff) => Ok(value),
            Some(value) => Err(self.error(format!("{name} cannot be {value}"))),
        }
    }

    fn head_dim(&self, value: Option<usize>, hidden_size: usize, heads: usize) -> Result<usize> {
        if value.is_none() && !hidden_size.is_multiple_of(heads) {
            let reason =
                format!("hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}");
            return Err(self.error(reason));
        }
        self.size("head_dim", value.or(Some(hidden_size / heads)))
    }

    fn eps(&self, name: &str, value: f64) -> Result<f32> {
        if value.is_finite() && (0.0..=1.0).contains(&value) {
            return Ok(value as f32);
        }
        Err(self.error(format!("{name} cannot be {value}")))
    }

    fn positive(&self, name: &str, value: Option<f64>) -> Result<f64> {
        match value {
            Some(value) if value.is_finite() && value > 0.0 => Ok(value),
            Some(value) => Err(self.error(format!("{name} cannot be {value}"))),
            None => Err(self.error(format!("{name} is missing"))),
        }
    }

    fn activation(&self, architecture: &Architecture, name: Option<&str>) -> Result<Activation> {
        match name {
            None => Ok(architecture.default_activation),
            Some("relu2") => Ok(Activation::Relu2),
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu") => Ok(Activation::Gelu),
            Some(other) => {
                Err(self.error(format!("hidden_act {other:?} is unknown; known: relu2, silu, gelu")))
            }
        }
    }

    fn rope(
        &self,
        architecture: &Architecture,
        theta: Option<f64>,
        scaling: Option<&RawRope>,
        parameters: Option<&RawRope>,
        context_length: usize,
    ) -> Result<(f64, RopeScaling)> {
        let raw = scaling.or(parameters);
        let theta = raw.and_then(|raw| raw.rope_theta).or(theta).unwrap_or(architecture.default_rope_theta);
        let theta = self.positive("rope_theta", Some(theta))?;
        let Some(raw) = raw else { return Ok((theta, RopeScaling::None)) };
        let scaling = match raw.rope_type.as_deref().or(raw.r#type.as_deref()) {
            None | Some("default") => RopeScaling::None,
            Some("linear") => {
                RopeScaling::Linear { factor: self.positive("rope_scaling.factor", raw.factor)? }
            }
            Some("llama3") => self.llama3(raw, context_length)?,
            Some(other) => {
                let reason = format!(
                    "rope_scaling of type {other:?} is not supported; known: default, linear, llama3"
                );
                return Err(self.error(reason));
            }
        };
        Ok((theta, scaling))
    }

    fn llama3(&self, raw: &RawRope, context_length: usize) -> Result<RopeScaling> {
        let low = self.positive("rope_scaling.low_freq_factor", raw.low_freq_factor)?;
        let high = self.positive("rope_scaling.high_freq_factor", raw.high_freq_factor)?;
        if high <= low {
            return Err(self
                .error(format!("rope_scaling: high_freq_factor {high} is not above low_freq_factor {low}")));
        }
        let original = raw.original_max_position_embeddings.or(Some(context_length as f64));
        Ok(RopeScaling::Llama3 {
            factor: self.positive("rope_scaling.factor", raw.factor)?,
            low_freq_factor: low,
            high_freq_factor: high,
            original_context: self.positive("rope_scaling.original_max_position_embeddings", original)?,
        })
    }

    fn quantization(
        &self,
        architecture: &Architecture,
        raw: Option<RawQuantization>,
    ) -> Result<QuantizationConfig> {
        let Some(raw) = raw else {
            if architecture.is_always_bitnet {
                // A master saved without the section: only ternarising it gives the model that was trained.
                return Ok(QuantizationConfig {
                    scale_sense: ScaleSense::Multiply,
                    form: Some(WeightForm::Master),
                    not_converted: ModulePatterns::head_only(),
                    input_norm_eps: None,
                });
            }
            let name = architecture.name;
            return Err(
                self.error(format!("has no quantization_config: a plain {name} model, not a BitNet one"))
            );
        };
        match raw.quant_method.as_deref() {
            None | Some("bitnet") => {}
            Some(other) => return Err(self.error(format!("quant_method is {other:?}, not \"bitnet\""))),
        }
        Ok(QuantizationConfig {
            scale_sense: self.scale_sense(raw.linear_class.as_deref())?,
            form: self.form(raw.quantization_mode.as_deref())?,
            not_converted: raw
                .modules_to_not_convert
                .map_or_else(ModulePatterns::head_only, ModulePatterns::new),
            input_norm_eps: raw
                .use_rms_norm
                .then(|| self.eps("quantization_config.rms_norm_eps", raw.rms_norm_eps.unwrap_or(1e-6)))
                .transpose()?,
        })
    }

    fn scale_sense(&self, linear_class: Option<&str>) -> Result<ScaleSense> {
        match linear_class {
            None | Some("bitlinear") => Ok(ScaleSense::Divide),
            Some("autobitlinear") => Ok(ScaleSense::Multiply),
            Some(other) => {
                Err(self.error(format!("linear_class {other:?} is unknown; known: bitlinear, autobitlinear")))
            }
        }
    }

    fn form(&self, mode: Option<&str>) -> Result<Option<WeightForm>> {
        match mode {
            None => Ok(None),
            Some("offline") => Ok(Some(WeightForm::Packed)),
            Some("online") => Ok(Some(WeightForm::Master)),
            Some(other) => {
                Err(self.error(format!("quantization_mode {other:?} is unknown; known: offline, online")))
            }
        }
    }
}

/// Path of `config.json` of a checkpoint, for errors about what it says.
pub(crate) fn config_path(checkpoint_path: &Path) -> PathBuf {
    checkpoint_path.join(CONFIG)
}
