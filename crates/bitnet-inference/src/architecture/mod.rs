//! What sets one architecture apart from another: one file each.
//!
//! To add one, write its file and name it in [`Architecture::ALL`].

mod bitnet;
mod gemma3;
mod llama;
mod one_bit_llm;
mod qwen3;

use std::path::Path;

use crate::activation::Activation;
use crate::{Error, Result};

/// A family of checkpoints: its name in `model_type`, its norms, and the defaults its config leaves out.
#[derive(Debug, PartialEq)]
pub struct Architecture {
    /// What it is called.
    pub name: &'static str,
    /// `model_type` in config.json.
    pub model_types: &'static [&'static str],
    /// A tensor by which checkpoints of this architecture are known among all with their `model_type`.
    pub marker: Option<&'static str>,
    /// Its norms.
    pub norms: Norms,
    /// Whether the feed-forward linears have biases when `mlp_bias` is set.
    pub has_mlp_bias: bool,
    /// Whether every model of the family is a BitNet one, even without a `quantization_config`.
    pub is_always_bitnet: bool,
    /// Whether embeddings are multiplied by the square root of their width.
    pub scales_embedding: bool,
    /// Layers that see neighbouring positions alone, where there are such.
    pub local: Option<LocalDefaults>,
    /// `hidden_act` when absent.
    pub default_activation: Activation,
    /// `head_dim` when absent; else `hidden_size / num_attention_heads`.
    pub default_head_dim: Option<usize>,
    /// `rms_norm_eps` when absent.
    pub default_rms_norm_eps: f64,
    /// `rope_theta` when absent.
    pub default_rope_theta: f64,
}

/// Names of the norms of a block, and what their weights are. A block without a norm is a block without its tensor.
#[derive(Debug, PartialEq)]
pub struct Norms {
    /// In front of the attention.
    pub attention: &'static str,
    /// In front of the output projection.
    pub attention_sub: Option<&'static str>,
    /// Behind the output projection.
    pub attention_post: Option<&'static str>,
    /// Whether each head of queries and keys has one: `q_norm` and `k_norm`.
    pub has_heads: bool,
    /// In front of the feed-forward network.
    pub mlp: &'static str,
    /// In front of the down projection.
    pub mlp_sub: Option<&'static str>,
    /// Behind the down projection.
    pub mlp_post: Option<&'static str>,
    /// Added to the stored weights of all of these, and of the last norm.
    pub offset: f32,
}

impl Norms {
    /// One norm in front of each half of a block.
    const PLAIN: Self = Self {
        attention: "input_layernorm",
        attention_sub: None,
        attention_post: None,
        has_heads: false,
        mlp: "post_attention_layernorm",
        mlp_sub: None,
        mlp_post: None,
        offset: 0.0,
    };
}

/// What a config may leave out of layers that see neighbouring positions alone.
#[derive(Debug, PartialEq)]
pub struct LocalDefaults {
    /// `sliding_window`.
    pub window: usize,
    /// `sliding_window_pattern`: every so many layers, one sees all positions.
    pub pattern: usize,
    /// `rope_local_base_freq`.
    pub rope_theta: f64,
}

impl Architecture {
    /// Every architecture this crate runs; of those with the same `model_type`, the one without a marker comes last.
    pub const ALL: [&'static Self; 5] = [
        &one_bit_llm::ARCHITECTURE,
        &bitnet::ARCHITECTURE,
        &llama::ARCHITECTURE,
        &qwen3::ARCHITECTURE,
        &gemma3::ARCHITECTURE,
    ];

    /// The architecture that `model_type` names, of a checkpoint that `has_tensor` of these names.
    pub(crate) fn find(
        path: &Path,
        model_type: Option<&str>,
        has_tensor: impl Fn(&str) -> bool,
    ) -> Result<&'static Self> {
        let name = model_type.ok_or_else(|| Error::config(path, "model_type is missing"))?;
        let mut named = Self::ALL.into_iter().filter(|architecture| architecture.model_types.contains(&name));
        named.find(|architecture| architecture.marker.is_none_or(&has_tensor)).ok_or_else(|| {
            let mut known: Vec<&str> = Vec::new();
            for model_type in Self::ALL.into_iter().flat_map(|architecture| architecture.model_types) {
                if !known.contains(model_type) {
                    known.push(model_type);
                }
            }
            Error::UnknownArchitecture {
                path: path.to_owned(),
                architecture: name.to_owned(),
                known: known.join(", "),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_tells_two_of_one_name_apart() {
        let find = |model_type, has_marker| {
            Architecture::find(Path::new("config.json"), Some(model_type), |_| has_marker)
        };
        assert_eq!(find("llama", false).unwrap(), &llama::ARCHITECTURE);
        assert_eq!(find("llama", true).unwrap(), &one_bit_llm::ARCHITECTURE);
        assert_eq!(find("bitnet", false).unwrap(), &bitnet::ARCHITECTURE);
        let error = find("gpt2", true).unwrap_err().to_string();
        assert!(error.ends_with("unknown architecture \"gpt2\"; known: llama, bitnet, qwen3, gemma3_text"));
    }
}
