//! Full-precision checkpoints as beginnings of BitNet models.

use std::collections::BTreeMap;

use bitnet_core::Tensor;
use bitnet_inference::checkpoint::Stored;
use bitnet_inference::config::ActivationMode;
use bitnet_inference::convert::description;
use bitnet_inference::{Checkpoint, ModelConfig};
use serde_json::{Map, Value, json};

use super::start::CONFIG;
use crate::nn::Initializer;
use crate::{Error, Result};

/// A Llama checkpoint in full precision as the master of a `bitnet` one; none where `checkpoint` is a master already.
///
/// Linears stay what they are, and will be ternary; in front of the output and down projections there is a new norm with
/// weights of 1 (`SubLN`: arXiv 2510.13998, section 3.1). The activation of the feed-forward network stays: `hidden_act`
/// says so, to the engine as to transformers, whose `BitNet` blocks take any.
///
/// Errors: [`Error::Unsupported`] for other architectures, GGUF files and packed weights; those of [`ModelConfig::read`].
pub(super) fn converted(checkpoint: &Checkpoint) -> Result<Option<Checkpoint>> {
    let config = ModelConfig::read(checkpoint)?;
    if config.quantization.activations == ActivationMode::Int8 {
        return Ok(None);
    }
    let unsupported = |what: String| Err(Error::Unsupported { what });
    if config.architecture.name != "llama" {
        return unsupported(format!(
            "a full-precision model of the architecture {}",
            config.architecture.name
        ));
    }
    let Some(json) = checkpoint.json(CONFIG)? else {
        return unsupported(format!("{}: a full-precision GGUF file", checkpoint.path().display()));
    };
    let mut tensors = BTreeMap::new();
    // Frequencies of old files follow from the config.
    for name in checkpoint.tensor_names().filter(|name| !name.ends_with(".rotary_emb.inv_freq")) {
        match checkpoint.tensor(name)? {
            Some(Stored::Plain(tensor)) if tensor.dtype().is_float() => {
                tensors.insert(name.to_owned(), tensor);
            }
            _ => return unsupported(format!("{name}, which holds no floats, of a full-precision model")),
        }
    }
    let mut files = description(checkpoint)?;
    let described = described(json, &config, tensors.contains_key("lm_head.weight"));
    files.insert(CONFIG.to_owned(), Value::from(described).to_string().into_bytes().into());
    let with = |tensors| Checkpoint::from_memory(checkpoint.path(), files.clone(), tensors);
    let student = ModelConfig::read(&with(BTreeMap::new()))?;
    tensors.extend(sub_norms(&student)?);
    Ok(Some(with(tensors)))
}

/// The config of the student: what the architectures have different defaults of is said.
fn described(mut json: Map<String, Value>, config: &ModelConfig, has_head: bool) -> Map<String, Value> {
    let said = json!({
        "architectures": ["BitNetForCausalLM"],
        "model_type": "bitnet",
        "hidden_act": config.activation.name(),
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied_head.unwrap_or(!has_head),
        "torch_dtype": "bfloat16",
        "quantization_config": {
            "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online",
        },
    });
    json.entry("rms_norm_eps").or_insert(config.architecture.default_rms_norm_eps.into());
    for old in ["dtype", "auto_map", "mlp_bias", "pretraining_tp"] {
        json.remove(old);
    }
    if let Value::Object(said) = said {
        json.extend(said);
    }
    json
}

/// New norms in front of the output and down projections, by their names.
fn sub_norms(config: &ModelConfig) -> Result<BTreeMap<String, Tensor>> {
    let norms = &config.architecture.norms;
    let of_block =
        [(norms.attention_sub, config.heads * config.head_dim), (norms.mlp_sub, config.intermediate_size)];
    let mut tensors = BTreeMap::new();
    for layer in 0..config.layers {
        for (name, width) in of_block {
            if let Some(name) = name {
                tensors.insert(format!("model.layers.{layer}.{name}.weight"), Initializer::ones(width)?);
            }
        }
    }
    Ok(tensors)
}
