//! The files beside the tensors of a Hugging Face folder: config, tokenizer, chat template.
//!
//! Those of a folder are carried over, what is unknown in them included; only the `quantization_config` is made anew.
//! Of a GGUF file they are made from what its keys say.

use std::collections::BTreeMap;

use bitnet_core::{Buffer, DType};
use serde_json::{Map, Value, json};

use super::hf::HfForm;
use super::losses::Losses;
use crate::chat::{ChatTemplate, TEMPLATE_FILE, TOKENIZER_CONFIG};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::ROPE_FACTORS;
use crate::config::{CONFIG, GENERATION_CONFIG, ModelConfig};
use crate::model::{HEAD, Linear, Model};
use crate::module_patterns::ModulePatterns;
use crate::rope::{Llama3, RopeScaling};
use crate::tokenizer::{TOKENIZER, Tokenizer};
use crate::{Error, Result};

/// Files that are carried over byte by byte where a folder has them.
const CARRIED: [&str; 9] = [
    GENERATION_CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    TEMPLATE_FILE,
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
];

/// Config, tokenizer and chat template of a checkpoint, by the names of their files: all that describes the tensors beside
/// them. A GGUF file has none.
///
/// Errors: [`Error::Io`].
pub fn description(checkpoint: &Checkpoint) -> Result<BTreeMap<String, Buffer>> {
    let mut files = BTreeMap::new();
    for name in CARRIED.into_iter().chain([CONFIG]) {
        files.extend(checkpoint.file(name)?.map(|bytes| (name.to_owned(), bytes)));
    }
    Ok(files)
}

const QUANTIZATION: &str = "quantization_config";
const NOT_CONVERTED: &str = "modules_to_not_convert";

/// Names and contents of all files. `embedding` is the type in which it is written; `rope_scaling` that of [`rope_scaling`].
pub(super) fn files(
    checkpoint: &Checkpoint,
    model: &Model,
    form: HfForm,
    embedding: DType,
    rope_scaling: Option<Value>,
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut files = Vec::new();
    let mut config = if checkpoint.gguf().is_some() {
        files.extend(tokenizer(checkpoint, &model.config)?);
        of_model(model, embedding, rope_scaling)
    } else {
        for name in CARRIED {
            files.extend(checkpoint.file(name)?.map(|bytes| (name, bytes.to_vec())));
        }
        let config: Option<Map<String, Value>> = checkpoint.json(CONFIG)?;
        config.ok_or_else(|| Error::config(checkpoint.file_path(CONFIG), "is missing"))?
    };
    if files.iter().all(|(name, _)| *name != GENERATION_CONFIG) {
        files.push((GENERATION_CONFIG, text(&generation(&model.config))));
    }
    quantization(&mut config, model, form);
    // Last: a reader looks for it first.
    files.push((CONFIG, text(&Value::Object(config))));
    Ok(files)
}

/// Says how the linears are stored.
fn quantization(config: &mut Map<String, Value>, model: &Model, form: HfForm) {
    let (linear_class, mode) = match form {
        HfForm::Multiply => ("autobitlinear", "offline"),
        HfForm::Divide => ("bitlinear", "offline"),
        HfForm::Master => ("autobitlinear", "online"),
    };
    let mut section = match config.remove(QUANTIZATION) {
        Some(Value::Object(section)) => section,
        _ => Map::new(),
    };
    section.insert("quant_method".to_owned(), "bitnet".into());
    section.insert("linear_class".to_owned(), linear_class.into());
    section.insert("quantization_mode".to_owned(), mode.into());
    // Of packed heads the type of the tensor says that they are; of masters only this list.
    if let (HfForm::Master, Some(head)) = (form, &model.head) {
        let is_float = matches!(head, Linear::Float(_));
        if model.config.quantization.converts(HEAD) == is_float {
            let mut names: Vec<Value> = match section.get(NOT_CONVERTED) {
                Some(Value::Array(names)) => names.clone(),
                _ => Vec::new(),
            };
            let names_head = |name: &Value| {
                name.as_str().is_some_and(|name| ModulePatterns::new(vec![name.to_owned()]).matches(HEAD))
            };
            names.retain(|name| !names_head(name));
            names.extend(is_float.then(|| HEAD.into()));
            section.insert(NOT_CONVERTED.to_owned(), names.into());
        }
    }
    config.insert(QUANTIZATION.to_owned(), section.into());
}

/// The config of a model that has none in JSON.
fn of_model(model: &Model, embedding: DType, rope_scaling: Option<Value>) -> Map<String, Value> {
    let c = &model.config;
    let is_bitnet = c.architecture.name == "bitnet";
    let mut config = json!({
        "architectures": [if is_bitnet { "BitNetForCausalLM" } else { "LlamaForCausalLM" }],
        "model_type": c.architecture.name,
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "intermediate_size": c.intermediate_size,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "head_dim": c.head_dim,
        "hidden_act": c.activation.name(),
        "max_position_embeddings": c.context_length,
        "rms_norm_eps": shortest(c.rms_norm_eps),
        "rope_theta": c.rope_theta,
        "tie_word_embeddings": model.head.is_none(),
        "attention_bias": c.attention_bias,
        "torch_dtype": match embedding {
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            _ => "float32",
        },
    });
    if c.architecture.has_mlp_bias {
        config["mlp_bias"] = c.mlp_bias.into();
    }
    if let Some(scaling) = rope_scaling {
        config["rope_scaling"] = scaling;
    }
    if let Some(bos) = c.bos {
        config["bos_token_id"] = bos.into();
    }
    if let Some(eos) = c.eos.first() {
        config["eos_token_id"] = (*eos).into();
    }
    match config {
        Value::Object(config) => config,
        _ => unreachable!("an object was made"),
    }
}

/// The `rope_scaling` of a config.
///
/// Errors: [`Error::Checkpoint`] for factors of a GGUF file that no parameters give.
pub(super) fn rope_scaling(
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    losses: &mut Losses,
) -> Result<Option<Value>> {
    let llama3 = match &config.rope_scaling {
        RopeScaling::None => return Ok(None),
        RopeScaling::Linear { factor } => {
            return Ok(Some(json!({"rope_type": "linear", "factor": factor})));
        }
        RopeScaling::Llama3(llama3) => *llama3,
        RopeScaling::Factors(factors) => {
            let found = Llama3::of_factors(config.rope_theta, config.head_dim, factors);
            let (llama3, is_exact) = found.ok_or_else(|| {
                let fact = "are not those of llama3, and config.json has no place for others";
                Error::checkpoint(checkpoint.path(), format!("{ROPE_FACTORS}: its factors {fact}"))
            })?;
            if !is_exact {
                losses.add(ROPE_FACTORS, "has factors whose last bits are not those of llama3");
            }
            llama3
        }
    };
    Ok(Some(json!({
        "rope_type": "llama3",
        "factor": llama3.factor,
        "low_freq_factor": llama3.low_freq_factor,
        "high_freq_factor": llama3.high_freq_factor,
        "original_max_position_embeddings": llama3.original_context as u64,
    })))
}

/// A float32 with as many digits as it takes: 1e-5, not 9.999999747378752e-6.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

fn generation(config: &ModelConfig) -> Value {
    let mut generation = json!({});
    if let Some(bos) = config.bos {
        generation["bos_token_id"] = bos.into();
    }
    if !config.eos.is_empty() {
        generation["eos_token_id"] = config.eos.clone().into();
    }
    generation
}

/// Tokenizer and chat template of a GGUF file.
fn tokenizer(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let Some(tokenizer) = Tokenizer::read(checkpoint)? else { return Ok(Vec::new()) };
    let template = ChatTemplate::read(checkpoint)?;
    let mut settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.context_length,
        "clean_up_tokenization_spaces": false,
        "model_input_names": ["input_ids", "attention_mask"],
    });
    let parts = [
        ("bos_token", Some(template.bos_token())),
        ("eos_token", Some(template.eos_token())),
        ("chat_template", template.source()),
    ];
    for (key, value) in parts {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            settings[key] = value.into();
        }
    }
    Ok(vec![(TOKENIZER, tokenizer.to_json()?.into_bytes()), (TOKENIZER_CONFIG, text(&settings))])
}

fn text(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_says_float32_numbers_in_few_digits() {
        assert_eq!(shortest(1e-5).to_string(), "0.00001");
        assert_eq!(shortest(0.1), 0.1);
    }
}
