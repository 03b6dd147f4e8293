//! The first open BitNet b1.58 models: 1bitLLM/bitnet_b1_58-large, -xl and -3B.
//!
//! Blocks as in Microsoft's, with `SiLU` and other names of the inner norms; float masters without a
//! `quantization_config`, under the `model_type` of Llama. Source: 1bitLLM/bitnet_b1_58-3B, `modeling_bitnet.py`.

use super::{Architecture, Norms};
use crate::activation::Activation;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "bitnet",
    model_types: &["llama", "bitnet"],
    marker: Some("model.layers.0.self_attn.inner_attn_ln.weight"),
    norms: Norms {
        attention_sub: Some("self_attn.inner_attn_ln"),
        mlp_sub: Some("mlp.ffn_layernorm"),
        ..Norms::PLAIN
    },
    has_mlp_bias: false,
    is_always_bitnet: true,
    scales_embedding: false,
    local: None,
    default_activation: Activation::Silu,
    default_head_dim: None,
    default_rms_norm_eps: 1e-6,
    default_rope_theta: 10_000.0,
};
