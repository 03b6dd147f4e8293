//! Gemma 3 with ternary linears: the BitNet embedding model of 270M.
//!
//! Scaled embeddings, norms in front of both halves of a block and behind them, weights of norms stored less 1, and
//! five layers of six that see neighbouring positions alone. Source: transformers 5.23, `models/gemma3`;
//! microsoft/BitNet, `utils/convert-bitnet-embedding-270m-to-gguf.py`.

use super::{Architecture, LocalDefaults, Norms};
use crate::activation::Activation;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "gemma3",
    model_types: &["gemma3_text"],
    marker: None,
    norms: Norms {
        attention_post: Some("post_attention_layernorm"),
        has_heads: true,
        mlp: "pre_feedforward_layernorm",
        mlp_post: Some("post_feedforward_layernorm"),
        offset: 1.0,
        ..Norms::PLAIN
    },
    has_mlp_bias: false,
    is_always_bitnet: false,
    scales_embedding: true,
    local: Some(LocalDefaults { window: 4096, pattern: 6, rope_theta: 10_000.0 }),
    default_activation: Activation::GeluTanh,
    default_head_dim: Some(256),
    default_rms_norm_eps: 1e-6,
    default_rope_theta: 1_000_000.0,
};
