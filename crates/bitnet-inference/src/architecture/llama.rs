//! Llama with ternary linears: Falcon-E, Falcon3-1.58bit, Llama3-8B-1.58.
//!
//! The plain block without further norms; the `quantization_config` makes it a BitNet model. Source: transformers
//! 5.23, `models/llama`, `integrations/bitnet.py`.

use super::Architecture;
use crate::activation::Activation;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "llama",
    has_sub_norms: false,
    has_mlp_bias: true,
    is_always_bitnet: false,
    default_activation: Activation::Silu,
    default_rms_norm_eps: 1e-6,
    default_rope_theta: 10_000.0,
};
