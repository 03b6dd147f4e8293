//! What sets one architecture apart from another: one file each.
//!
//! To add one, write its file and name it in [`Architecture::ALL`].

mod bitnet;
mod llama;

use std::path::Path;

use crate::activation::Activation;
use crate::{Error, Result};

/// A family of checkpoints: its name in `model_type`, and the defaults its config leaves out.
#[derive(Debug, PartialEq)]
pub struct Architecture {
    /// `model_type` in config.json.
    pub name: &'static str,
    /// Whether attention output and gated product pass an RMSNorm of their own (`SubLN`).
    pub has_sub_norms: bool,
    /// Whether the feed-forward linears have biases when `mlp_bias` is set.
    pub has_mlp_bias: bool,
    /// Whether every model of the family is a BitNet one, even without a `quantization_config`.
    pub is_always_bitnet: bool,
    /// `hidden_act` when absent.
    pub default_activation: Activation,
    /// `rms_norm_eps` when absent.
    pub default_rms_norm_eps: f64,
    /// `rope_theta` when absent.
    pub default_rope_theta: f64,
}

impl Architecture {
    /// Every architecture this crate runs.
    pub const ALL: [&'static Self; 2] = [&bitnet::ARCHITECTURE, &llama::ARCHITECTURE];

    /// The architecture that `model_type` names.
    pub(crate) fn find(path: &Path, model_type: Option<&str>) -> Result<&'static Self> {
        let name = model_type.ok_or_else(|| Error::config(path, "model_type is missing"))?;
        Self::ALL.into_iter().find(|architecture| architecture.name == name).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|architecture| architecture.name).collect();
            Error::UnknownArchitecture {
                path: path.to_owned(),
                architecture: name.to_owned(),
                known: known.join(", "),
            }
        })
    }
}
