//! What the keys of a GGUF file say, in the words of `config.json`.
//!
//! Source of the keys and of their defaults: llama.cpp, `gguf-py/gguf/constants.py` and `src/llama-model.cpp`.

use super::ModelConfig;
use super::raw::{OneOrMany, RawConfig, RawQuantization, RawRope};
use crate::checkpoint::gguf::{BITNETS, Contents, GEMMA3, Gguf, LLAMA, Metadata, QWEN3};
use crate::rope::RopeScaling;
use crate::{Error, Result};

/// The keys of one architecture.
struct Keys<'a> {
    prefix: &'a str,
    metadata: &'a Metadata,
}

impl Keys<'_> {
    fn count(&self, key: &str) -> Result<Option<usize>> {
        self.metadata.count(&self.key(key))
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.metadata.number(&self.key(key))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.metadata.flag(&self.key(key))
    }

    fn needed(&self, key: &str) -> Result<usize> {
        let missing = || self.metadata.error(&self.key(key), "a whole number", "nothing");
        self.count(key)?.ok_or_else(missing)
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }
}

/// The config of a file.
pub(super) fn read(gguf: &Gguf) -> Result<RawConfig> {
    let contents = gguf.contents();
    let prefix = contents.architecture()?;
    let keys = Keys { prefix, metadata: contents.metadata() };
    let model_type = model_type(contents, prefix)?;
    let vocabulary = gguf.vocabulary()?;
    let (bos, eos) = match vocabulary {
        Some(vocabulary) => (vocabulary.bos, vocabulary.ends),
        None => (None, Vec::new()),
    };
    let heads = keys.needed("attention.head_count")?;
    let hidden_size = keys.needed("embedding_length")?;
    let head_dim = keys.count("attention.key_length")?.or(hidden_size.checked_div(heads));
    refuse_partial_rotation(&keys, head_dim)?;
    let mut config = RawConfig {
        model_type: Some(model_type.to_owned()),
        vocab_size: contents.vocabulary_rows().or(keys.count("vocab_size")?),
        hidden_size: Some(hidden_size),
        intermediate_size: Some(keys.needed("feed_forward_length")?),
        num_hidden_layers: Some(keys.needed("block_count")?),
        num_attention_heads: Some(heads),
        num_key_value_heads: keys.count("attention.head_count_kv")?,
        head_dim,
        hidden_act: Some(gguf.activation().name().to_owned()),
        max_position_embeddings: Some(keys.needed("context_length")?),
        rms_norm_eps: keys.number("attention.layer_norm_rms_epsilon")?,
        rope_theta: Some(keys.number("rope.freq_base")?.unwrap_or(10_000.0)),
        rope_scaling: rope_scaling(&keys)?,
        // Older files of bitnet.cpp store the embedding a second time.
        tie_word_embeddings: (model_type == "bitnet").then_some(true),
        attention_bias: Some(contents.has_bias(".self_attn.")),
        mlp_bias: Some(contents.has_bias(".mlp.")),
        use_bidirectional_attention: keys.flag("attention.causal")?.map(|is_causal| !is_causal),
        quantization_config: Some(RawQuantization {
            quant_method: None,
            linear_class: Some("autobitlinear".to_owned()),
            quantization_mode: None,
            modules_to_not_convert: None,
            use_rms_norm: false,
            rms_norm_eps: None,
        }),
        bos_token_id: bos.map(OneOrMany::One),
        eos_token_id: Some(OneOrMany::Many(eos)),
        ..RawConfig::default()
    };
    if prefix == GEMMA3 {
        add_gemma3(&mut config, &keys)?;
    }
    Ok(config)
}

/// What Gemma 3 has besides. Without a window all of its layers see all positions.
fn add_gemma3(config: &mut RawConfig, keys: &Keys<'_>) -> Result<()> {
    let is_set = |number: &f64| *number != 0.0;
    config.final_logit_softcapping = keys.number("final_logit_softcapping")?.filter(is_set);
    match keys.count("attention.sliding_window")?.filter(|window| *window > 0) {
        Some(window) => {
            config.sliding_window = Some(window);
            config.sliding_window_pattern = keys.count("attention.sliding_window_pattern")?;
            config.rope_local_base_freq = keys.number("rope.freq_base_swa")?;
        }
        None => config.sliding_window_pattern = Some(1),
    }
    Ok(())
}

/// The name of the architecture in `config.json`.
fn model_type(contents: &Contents, architecture: &str) -> Result<&'static str> {
    let model_type = match architecture {
        bitnet if BITNETS.contains(&bitnet) => return Ok("bitnet"),
        LLAMA => "llama",
        QWEN3 => "qwen3",
        GEMMA3 => "gemma3_text",
        other => {
            return Err(Error::UnknownArchitecture {
                path: contents.path().to_owned(),
                architecture: other.to_owned(),
                known: format!("{}, {LLAMA}, {QWEN3}, {GEMMA3}", BITNETS.join(", ")),
            });
        }
    };
    if contents.has_ternary() || contents.has_own_norms() {
        return Ok(model_type);
    }
    let reason = format!("has no ternary matrix: a plain {architecture} model, not a BitNet one");
    Err(Error::config(contents.path(), reason))
}

fn rope_scaling(keys: &Keys<'_>) -> Result<Option<RawRope>> {
    const TYPE: &str = "rope.scaling.type";
    let factor = match keys.number("rope.scaling.factor")? {
        // The older key; 0 and 1 change nothing.
        None => keys.number("rope.scale_linear")?,
        factor => factor,
    };
    let factor = factor.filter(|&factor| factor != 0.0 && factor != 1.0);
    let kind = keys.metadata.text(&keys.key(TYPE))?;
    if kind == Some("none") || kind.is_none_or(|kind| kind == "linear") && factor.is_none() {
        return Ok(None);
    }
    Ok(Some(RawRope { rope_type: Some(kind.unwrap_or("linear").to_owned()), factor, ..RawRope::default() }))
}

/// The scaling llama3, and others that llama.cpp's converters make factors of: a tensor, not a key.
pub(super) fn read_rope_factors(gguf: &Gguf, config: &mut ModelConfig) -> Result<()> {
    let contents = gguf.contents();
    let Some(factors) = contents.rope_factors(config.head_dim / 2)? else { return Ok(()) };
    if config.rope_scaling != RopeScaling::None {
        let reason = "rope.scaling and the factors of rope_freqs.weight contradict each other";
        return Err(Error::config(contents.path(), reason));
    }
    config.rope_scaling = RopeScaling::Factors(factors.into());
    Ok(())
}

/// A head of which a part stays as it is.
fn refuse_partial_rotation(keys: &Keys<'_>, head_dim: Option<usize>) -> Result<()> {
    const ROTATED: &str = "rope.dimension_count";
    match keys.count(ROTATED)? {
        Some(rotated) if Some(rotated) != head_dim => {
            let expected = format!("the size of a head, {}", head_dim.unwrap_or_default());
            Err(keys.metadata.error(&keys.key(ROTATED), &expected, rotated.to_string()))
        }
        _ => Ok(()),
    }
}
