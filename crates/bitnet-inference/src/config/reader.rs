//! From raw values to checked ones.

use std::path::PathBuf;

use super::raw::{OneOrMany, RawConfig, RawGeneration, RawQuantization};
use super::{ActivationMode, ModelConfig, ProjectionNorm, QuantizationConfig, ScaleSense, WeightForm};
use crate::activation::Activation;
use crate::architecture::Architecture;
use crate::model::LINEARS;
use crate::module_patterns::ModulePatterns;
use crate::{Error, Result};

/// Turns raw values into checked ones, with errors that name the file.
pub(super) struct Reader<'a> {
    pub(super) path: PathBuf,
    /// Whether the checkpoint has a tensor of this name.
    pub(super) has_tensor: &'a dyn Fn(&str) -> bool,
}

impl Reader<'_> {
    pub(super) fn error(&self, reason: String) -> Error {
        Error::config(self.path.clone(), reason)
    }

    pub(super) fn config(&self, raw: RawConfig, generation: Option<RawGeneration>) -> Result<ModelConfig> {
        let architecture = Architecture::find(&self.path, raw.model_type.as_deref(), self.has_tensor)?;
        self.refuse_unknown_attention(&raw)?;
        let hidden_size = self.size("hidden_size", raw.hidden_size)?;
        let heads = self.size("num_attention_heads", raw.num_attention_heads)?;
        let kv_heads = self.size("num_key_value_heads", raw.num_key_value_heads.or(Some(heads)))?;
        let context_length =
            self.size("max_position_embeddings", raw.max_position_embeddings.or(Some(2048)))?;
        let layers = self.size("num_hidden_layers", raw.num_hidden_layers)?;
        let (rope_theta, rope_scaling) = self.rope(architecture, &raw, context_length)?;
        let local = self.local(architecture, &raw, layers, context_length)?;
        let head_dim = self.head_dim(raw.head_dim.or(architecture.default_head_dim), hidden_size, heads)?;
        let rms_norm_eps =
            self.eps("rms_norm_eps", raw.rms_norm_eps.unwrap_or(architecture.default_rms_norm_eps))?;
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
            layers,
            heads,
            kv_heads,
            head_dim,
            activation: self.activation(architecture, raw.hidden_activation.or(raw.hidden_act).as_deref())?,
            embedding_scale: architecture.scales_embedding.then_some((hidden_size as f32).sqrt()),
            score_scale: self.score_scale(raw.query_pre_attn_scalar, head_dim)?,
            context_length,
            rms_norm_eps,
            rope_theta,
            rope_scaling,
            local,
            tied_head: raw.tie_word_embeddings,
            attention_bias: raw.attention_bias.unwrap_or(false),
            mlp_bias: architecture.has_mlp_bias && raw.mlp_bias.unwrap_or(false),
            quantization: self.quantization(architecture, raw.quantization_config, rms_norm_eps)?,
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
    pub(super) fn size(&self, name: &str, value: Option<usize>) -> Result<usize> {
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

    /// `1 / sqrt(scalar)`, by default of the size of a head.
    fn score_scale(&self, scalar: Option<f64>, head_dim: usize) -> Result<f32> {
        let scalar = self.positive("query_pre_attn_scalar", scalar.or(Some(head_dim as f64)))?;
        Ok(1.0 / (scalar as f32).sqrt())
    }

    pub(super) fn positive(&self, name: &str, value: Option<f64>) -> Result<f64> {
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
            Some("gelu_pytorch_tanh" | "gelu_new") => Ok(Activation::GeluTanh),
            Some(other) => Err(self.error(format!(
                "hidden_act {other:?} is unknown; known: relu2, silu, gelu, gelu_pytorch_tanh"
            ))),
        }
    }

    fn quantization(
        &self,
        architecture: &Architecture,
        raw: Option<RawQuantization>,
        model_eps: f32,
    ) -> Result<QuantizationConfig> {
        // Any of them: where another is missing, that is what to say.
        let has_norm = |linear: &str| (self.has_tensor)(&format!("model.layers.0.{linear}.norm.weight"));
        let has_own_norms = LINEARS.into_iter().any(has_norm);
        let own_norm = has_own_norms.then_some(ProjectionNorm { name: "norm", eps: model_eps });
        let Some(raw) = raw else {
            // A master saved without the section: only ternarising it gives the model that was trained. Elsewhere the
            // weights must be ternary as they are, and there are no other activations than those of plain models.
            let is_bitnet = architecture.is_always_bitnet || own_norm.is_some();
            let (form, activations) = if is_bitnet {
                (WeightForm::Master, ActivationMode::Int8)
            } else {
                (WeightForm::Ternary, ActivationMode::Float)
            };
            return Ok(QuantizationConfig {
                scale_sense: ScaleSense::Multiply,
                form: Some(form),
                not_converted: ModulePatterns::head_only(),
                input_norm: own_norm,
                activations,
            });
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
            input_norm: if raw.use_rms_norm { Some(self.rms_norm(raw.rms_norm_eps)?) } else { own_norm },
            activations: ActivationMode::Int8,
        })
    }

    fn rms_norm(&self, eps: Option<f64>) -> Result<ProjectionNorm> {
        let eps = self.eps("quantization_config.rms_norm_eps", eps.unwrap_or(1e-6))?;
        Ok(ProjectionNorm { name: "rms_norm", eps })
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
