//! Llama with ternary linears: Falcon-E, Falcon3-1.58bit, Llama3-8B-1.58, `TriLM`.
//!
//! The plain block without further norms; the `quantization_config` makes it a BitNet model, or weights that are
//! ternary as they are stored. Source: transformers 5.23, `models/llama`, `integrations/bitnet.py`.

use super::{Architecture, Norms};
use crate::activation::Activation;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "llama",
    model_types: &["llama"],
    marker: None,
    norms: Norms::PLAIN,
    has_mlp_bias: true,
    is_always_bitnet: false,
    scales_embedding: false,
    local: None,
    default_activation: Activation::Silu,
    default_head_dim: None,
    default_rms_norm_eps: 1e-6,
    default_rope_theta: 10_000.0,
};
