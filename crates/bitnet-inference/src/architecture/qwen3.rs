//! Qwen3 with ternary linears: the BitNet embedding model of 0.6B, Ternary-Bonsai.
//!
//! A norm for each head of queries and keys. Source: transformers 5.23, `models/qwen3`; microsoft/BitNet,
//! `utils/convert-bitnet-embedding-to-gguf.py`.

use super::{Architecture, Norms};
use crate::activation::Activation;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "qwen3",
    model_types: &["qwen3"],
    marker: None,
    norms: Norms { has_heads: true, ..Norms::PLAIN },
    has_mlp_bias: false,
    is_always_bitnet: false,
    scales_embedding: false,
    local: None,
    default_activation: Activation::Silu,
    default_head_dim: Some(128),
    default_rms_norm_eps: 1e-6,
    default_rope_theta: 10_000.0,
};
