//! The config files as they are written, nothing checked.

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    pub(super) fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

#[derive(Deserialize, Default)]
pub(super) struct RawConfig {
    pub(super) model_type: Option<String>,
    pub(super) vocab_size: Option<usize>,
    pub(super) hidden_size: Option<usize>,
    pub(super) intermediate_size: Option<usize>,
    pub(super) num_hidden_layers: Option<usize>,
    pub(super) num_attention_heads: Option<usize>,
    pub(super) num_key_value_heads: Option<usize>,
    pub(super) head_dim: Option<usize>,
    pub(super) hidden_act: Option<String>,
    /// Gemma's name of `hidden_act`.
    pub(super) hidden_activation: Option<String>,
    pub(super) max_position_embeddings: Option<usize>,
    pub(super) rms_norm_eps: Option<f64>,
    pub(super) rope_theta: Option<f64>,
    pub(super) rope_scaling: Option<RawRope>,
    /// The form of transformers 5: theta and scaling in one object.
    pub(super) rope_parameters: Option<RawRope>,
    pub(super) rope_local_base_freq: Option<f64>,
    pub(super) query_pre_attn_scalar: Option<f64>,
    pub(super) layer_types: Option<Vec<String>>,
    pub(super) sliding_window: Option<usize>,
    #[serde(alias = "_sliding_window_pattern")]
    pub(super) sliding_window_pattern: Option<usize>,
    pub(super) use_sliding_window: Option<bool>,
    pub(super) use_bidirectional_attention: Option<bool>,
    pub(super) attn_logit_softcapping: Option<f64>,
    pub(super) final_logit_softcapping: Option<f64>,
    pub(super) tie_word_embeddings: Option<bool>,
    pub(super) attention_bias: Option<bool>,
    pub(super) mlp_bias: Option<bool>,
    pub(super) quantization_config: Option<RawQuantization>,
    pub(super) bos_token_id: Option<OneOrMany>,
    pub(super) eos_token_id: Option<OneOrMany>,
}

#[derive(Deserialize, Clone, Default)]
pub(super) struct RawRope {
    pub(super) rope_type: Option<String>,
    /// The older name of `rope_type`.
    pub(super) r#type: Option<String>,
    pub(super) rope_theta: Option<f64>,
    pub(super) factor: Option<f64>,
    pub(super) low_freq_factor: Option<f64>,
    pub(super) high_freq_factor: Option<f64>,
    pub(super) original_max_position_embeddings: Option<f64>,
    /// Those of layers that see all positions, where they differ from the others.
    pub(super) full_attention: Option<Box<Self>>,
    /// Those of layers that see neighbouring positions alone.
    pub(super) sliding_attention: Option<Box<Self>>,
}

#[derive(Deserialize)]
pub(super) struct RawQuantization {
    pub(super) quant_method: Option<String>,
    pub(super) linear_class: Option<String>,
    pub(super) quantization_mode: Option<String>,
    pub(super) modules_to_not_convert: Option<Vec<String>>,
    #[serde(default)]
    pub(super) use_rms_norm: bool,
    pub(super) rms_norm_eps: Option<f64>,
}

#[derive(Deserialize)]
pub(super) struct RawGeneration {
    pub(super) eos_token_id: Option<OneOrMany>,
}
