//! BitNet b1.58 as Microsoft published it: microsoft/bitnet-b1.58-2B-4T and its bf16 master.
//!
//! Squared ReLU, and an RMSNorm in front of the output and down projections. Source: arXiv 2504.12285; transformers
//! 5.23, `models/bitnet`.

use super::{Architecture, Norms};
use crate::activation::Activation;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "bitnet",
    model_types: &["bitnet"],
    marker: None,
    norms: Norms {
        attention_sub: Some("self_attn.attn_sub_norm"),
        mlp_sub: Some("mlp.ffn_sub_norm"),
        ..Norms::PLAIN
    },
    has_mlp_bias: false,
    is_always_bitnet: true,
    scales_embedding: false,
    local: None,
    default_activation: Activation::Relu2,
    default_head_dim: None,
    default_rms_norm_eps: 1e-5,
    default_rope_theta: 500_000.0,
};
