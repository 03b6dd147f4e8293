//! The keys of a GGUF file: what the config says, the vocabulary and the chat template.
//!
//! They are those that the converters of llama.cpp and bitnet.cpp write; see `config/gguf.rs`, which reads them.

use serde::Deserialize;

use super::GgufWeights;
use crate::activation::Activation;
use crate::chat::ChatTemplate;
use crate::checkpoint::gguf::{GEMMA3, LAST_TOKEN, LLAMA, QWEN3, Writer};
use crate::config::ModelConfig;
use crate::rope::RopeScaling;
use crate::tokenizer::Tokenizer;
use crate::{Checkpoint, Error, Result};

/// The file of sentence-transformers that says how a text's vector is made of those of its tokens.
const POOLING: &str = "1_Pooling/config.json";

/// Some of its ways; llama.cpp numbers them so.
#[derive(Deserialize)]
struct Pooling {
    #[serde(default, rename = "pooling_mode_mean_tokens")]
    takes_mean: bool,
    #[serde(default, rename = "pooling_mode_cls_token")]
    takes_first: bool,
    #[serde(default, rename = "pooling_mode_lasttoken")]
    takes_last: bool,
}

/// Writes all keys but those of parts.
///
/// Errors: [`Error::Checkpoint`] for what has no key, [`Error::Tokenizer`].
pub(super) fn write(
    writer: &mut Writer,
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    weights: GgufWeights,
) -> Result<()> {
    let architecture = architecture(checkpoint, config)?;
    write_shape(writer, checkpoint, config, architecture, weights)?;
    write_positions(writer, checkpoint, config, architecture)?;
    if let Some(pooling) = pooling(checkpoint)? {
        writer.count(&format!("{architecture}.pooling_type"), pooling)?;
    }
    write_vocabulary(writer, checkpoint, config)
}

/// What GGUF calls the family.
fn architecture(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<&'static str> {
    match (config.architecture.name, config.activation) {
        ("bitnet", Activation::Relu2) => Ok("bitnet-b1.58"),
        ("bitnet", Activation::Silu) => Ok("bitnet"),
        ("llama", Activation::Silu) => Ok(LLAMA),
        ("qwen3", Activation::Silu) => Ok(QWEN3),
        ("gemma3", Activation::GeluTanh) => Ok(GEMMA3),
        (name, activation) => {
            let reason = format!("is a {name} model with {}, which has no name in GGUF", activation.name());
            Err(Error::checkpoint(checkpoint.path(), reason))
        }
    }
}

fn write_shape(
    writer: &mut Writer,
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    architecture: &str,
    weights: GgufWeights,
) -> Result<()> {
    let name = checkpoint.path().file_stem().unwrap_or_default().to_string_lossy();
    writer.text("general.architecture", architecture);
    writer.text("general.name", &name);
    writer.count("general.file_type", weights.file_type())?;
    writer.count("general.quantization_version", 2)?;
    for (key, value) in [
        ("vocab_size", config.vocab_size),
        ("context_length", config.context_length),
        ("embedding_length", config.hidden_size),
        ("block_count", config.layers),
        ("feed_forward_length", config.intermediate_size),
        ("rope.dimension_count", config.head_dim),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
    ] {
        writer.count(&format!("{architecture}.{key}"), value)?;
    }
    writer.number(&format!("{architecture}.attention.layer_norm_rms_epsilon"), config.rms_norm_eps);
    Ok(())
}

fn write_positions(
    writer: &mut Writer,
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    architecture: &str,
) -> Result<()> {
    let refuse =
        |fact: &str| Err(Error::checkpoint(checkpoint.path(), format!("{fact}, which has no key in GGUF")));
    if config.score_scale != 1.0 / (config.head_dim as f32).sqrt() {
        return refuse("scores its queries by another number than the size of a head");
    }
    writer.number(&format!("{architecture}.rope.freq_base"), config.rope_theta as f32);
    // The others are a tensor.
    if let RopeScaling::Linear { factor } = config.rope_scaling {
        writer.text(&format!("{architecture}.rope.scaling.type"), "linear");
        writer.number(&format!("{architecture}.rope.scaling.factor"), factor as f32);
    }
    let Some(local) = &config.local else { return Ok(()) };
    let Some(pattern) = pattern(config) else {
        return refuse("sees a window in layers that are not all but every so manyth");
    };
    // Without a window every layer sees all positions.
    if pattern == 1 {
        return Ok(());
    }
    if local.rope_scaling != RopeScaling::None {
        return refuse("stretches the rotary frequencies of layers that see a window");
    }
    writer.count(&format!("{architecture}.attention.sliding_window"), local.window)?;
    writer.count(&format!("{architecture}.attention.sliding_window_pattern"), pattern)?;
    writer.number(&format!("{architecture}.rope.freq_base_swa"), local.rope_theta as f32);
    Ok(())
}

/// The number of which every multiple is that of a layer that sees all positions, from 1, if there is one.
fn pattern(config: &ModelConfig) -> Option<usize> {
    let is_global = |layer: usize| config.local(layer).is_none();
    let pattern = (0..config.layers).find(|&layer| is_global(layer)).unwrap_or(config.layers) + 1;
    (0..config.layers).all(|layer| is_global(layer) == (layer + 1).is_multiple_of(pattern)).then_some(pattern)
}

/// How a text's vector is made of those of its tokens, by the number of llama.cpp, where the checkpoint says so.
fn pooling(checkpoint: &Checkpoint) -> Result<Option<usize>> {
    if let Some(gguf) = checkpoint.gguf() {
        return Ok(gguf.pooling());
    }
    let Some(pooling) = checkpoint.json::<Pooling>(POOLING)? else { return Ok(None) };
    let known = [(pooling.takes_mean, 1), (pooling.takes_first, 2), (pooling.takes_last, LAST_TOKEN)];
    let asked: Vec<usize> =
        known.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, number)| number).collect();
    match asked[..] {
        [number] => Ok(Some(number)),
        _ => Err(Error::checkpoint(
            checkpoint.file_path(POOLING),
            "asks for a pooling that GGUF has no number for",
        )),
    }
}

fn write_vocabulary(writer: &mut Writer, checkpoint: &Checkpoint, config: &ModelConfig) -> Result<()> {
    if let Some(gguf) = checkpoint.gguf() {
        gguf.contents().metadata().raw("tokenizer.").for_each(|(key, value)| writer.raw(key, value));
        return Ok(());
    }
    match Tokenizer::read(checkpoint)? {
        Some(tokenizer) => tokenizer.write(writer, config)?,
        None => writer.text("tokenizer.ggml.model", "none"),
    }
    if let Some(source) = ChatTemplate::read(checkpoint)?.source() {
        writer.text("tokenizer.chat_template", source);
    }
    Ok(())
}
