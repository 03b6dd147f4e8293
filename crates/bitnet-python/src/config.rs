//! The shape of a model.

use pyo3::prelude::*;

/// What a checkpoint says of its model. Names are those of config.json.
#[pyclass(frozen, get_all, module = "bitnet_rust")]
pub(crate) struct ModelConfig {
    /// The architecture, `model_type` in config.json.
    architecture: &'static str,
    /// Rows of the embedding.
    vocab_size: usize,
    /// Width of the residual stream.
    hidden_size: usize,
    /// Width of the feed-forward network.
    intermediate_size: usize,
    /// Number of blocks.
    num_hidden_layers: usize,
    /// Query heads.
    num_attention_heads: usize,
    /// Key and value heads.
    num_key_value_heads: usize,
    /// Width of a head.
    head_dim: usize,
    /// Nonlinearity of the feed-forward network: relu2, silu or gelu.
    hidden_act: &'static str,
    /// Positions the model was built for.
    max_position_embeddings: usize,
    /// Added to the mean square in every RMSNorm.
    rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    rope_theta: f64,
    /// Whether the head is the embedding.
    tie_word_embeddings: bool,
    /// First token of a text.
    bos_token_id: Option<u32>,
    /// Tokens that end a text.
    eos_token_ids: Vec<u32>,
    /// What a stored scale does to the codes, "multiply" or "divide"; None for masters.
    scale_sense: Option<&'static str>,
}

impl ModelConfig {
    pub(crate) fn new(c: &bitnet_inference::ModelConfig, summary: &bitnet_inference::Summary) -> Self {
        Self {
            architecture: c.architecture.name,
            vocab_size: c.vocab_size,
            hidden_size: c.hidden_size,
            intermediate_size: c.intermediate_size,
            num_hidden_layers: c.layers,
            num_attention_heads: c.heads,
            num_key_value_heads: c.kv_heads,
            head_dim: c.head_dim,
            hidden_act: c.activation.name(),
            max_position_embeddings: c.context_length,
            rms_norm_eps: f64::from(c.rms_norm_eps),
            rope_theta: c.rope_theta,
            tie_word_embeddings: summary.tied_head,
            bos_token_id: c.bos,
            eos_token_ids: c.eos.clone(),
            scale_sense: summary.scale_sense,
        }
    }
}

#[pymethods]
impl ModelConfig {
    fn __repr__(&self) -> String {
        format!(
            "ModelConfig({}, {} layers, hidden {}, vocabulary {})",
            self.architecture, self.num_hidden_layers, self.hidden_size, self.vocab_size
        )
    }
}
