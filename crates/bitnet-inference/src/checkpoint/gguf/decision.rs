//! What a GGUF file leaves open: how it is decided, and how a user decides otherwise.

use std::fmt;
use std::str::FromStr;

use bitnet_quant::Codec;
use serde::Serialize;

use super::contents::Contents;
use super::i2_s::Evidence;
use super::{BITNET, GEMMA3, LLAMA, QWEN3};
use crate::activation::Activation;
use crate::{Error, Result};

/// What a GGUF file does not say, as the user says it. Each is decided from the file where it is `None`.
///
/// As a text: `activation=silu,i2_s=64,pre=qwen2`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GgufOptions {
    /// `activation=relu2|silu|gelu`: the nonlinearity. The label `bitnet` stands on models of both kinds.
    pub activation: Option<Activation>,
    /// `i2_s=128|64`: weights of a group of `I2_S`. Builds of bitnet.cpp for ARM write 64 and do not say so.
    pub i2_s_group: Option<usize>,
    /// `pre=NAME`: how a text is split in front of byte-pair encoding, by its name in `tokenizer.ggml.pre`.
    pub pre_tokenizer: Option<String>,
    /// `pooling=last`: the vector of a text is that of its last token, whatever the file says.
    pub pools_last_token: bool,
}

impl FromStr for GgufOptions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut options = Self::default();
        let refuse =
            |expected, got: &str| Error::InvalidOption { name: "gguf", expected, got: got.to_owned() };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("activation", name)) => {
                    let activation = Activation::ALL.into_iter().find(|activation| activation.name() == name);
                    let expected = "activation=relu2, activation=silu or activation=gelu";
                    options.activation = Some(activation.ok_or_else(|| refuse(expected, part))?);
                }
                Some(("i2_s", "128")) => options.i2_s_group = Some(128),
                Some(("i2_s", "64")) => options.i2_s_group = Some(64),
                Some(("i2_s", _)) => return Err(refuse("i2_s=128 or i2_s=64", part)),
                Some(("pre", name)) => options.pre_tokenizer = Some(name.to_owned()),
                Some(("pooling", "last")) => options.pools_last_token = true,
                Some(("pooling", _)) => return Err(refuse("pooling=last", part)),
                _ => {
                    let expected = "activation=..., i2_s=..., pre=... or pooling=last, separated by commas";
                    return Err(refuse(expected, part));
                }
            }
        }
        Ok(options)
    }
}

/// Something that a file leaves open, and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// What was to be decided.
    pub about: &'static str,
    /// What it was decided to be.
    pub chosen: String,
    /// What speaks for it.
    pub reason: String,
    /// The option that decides otherwise.
    pub option: &'static str,
    /// Whether nothing in the file speaks clearly for it.
    pub is_guess: bool,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { about, chosen, reason, option, .. } = self;
        write!(f, "{about}: {chosen}, {reason}; {option} decides otherwise")
    }
}

/// Everything decided, in the words of the program and in those of the user.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) activation: Activation,
    /// The layout of `I2_S`.
    pub(super) i2_s: Codec,
    pub(super) pre_tokenizer: String,
    /// `pooling_type`, a number of llama.cpp's.
    pub(super) pooling: Option<usize>,
    pub(super) all: Vec<Decision>,
}

const BY_USER: &str = "as asked for";
/// What the published files of bitnet.cpp need and do not name.
const DEFAULT_PRE: &str = "llama-bpe";
/// The `pooling_type` of llama.cpp that is the last token's vector.
pub(crate) const LAST_TOKEN: usize = 3;
/// The one that is the mean of all tokens.
pub(crate) const MEAN: usize = 1;

impl Decided {
    /// Decides what a file leaves open.
    pub(super) fn new(contents: &Contents, options: &GgufOptions) -> Result<Self> {
        let mut all = Vec::new();
        let activation = activation(contents, options, &mut all)?;
        let i2_s = i2_s(contents, options, &mut all);
        let pre_tokenizer = pre_tokenizer(contents, options, &mut all)?;
        let pooling = pooling(contents, options)?;
        Ok(Self { activation, i2_s, pre_tokenizer, pooling, all })
    }
}

fn activation(contents: &Contents, options: &GgufOptions, all: &mut Vec<Decision>) -> Result<Activation> {
    let architecture = contents.architecture()?;
    let mut decide = |activation: Activation, reason: String, is_guess| {
        let option = "--gguf activation=relu2|silu|gelu";
        let chosen = activation.name().to_owned();
        all.push(Decision { about: "activation", chosen, reason, option, is_guess });
        Ok(activation)
    };
    if let Some(activation) = options.activation {
        return decide(activation, BY_USER.to_owned(), false);
    }
    match architecture {
        BITNET => {}
        LLAMA | QWEN3 => return Ok(Activation::Silu),
        GEMMA3 => return Ok(Activation::GeluTanh),
        _ => return Ok(Activation::Relu2),
    }
    // The label of 1bitLLM's models, which some converters put on Microsoft's.
    let size = |key: &str| contents.metadata.count(&format!("{architecture}.{key}"));
    let shape = (size("embedding_length")?, size("feed_forward_length")?, contents.vocabulary_rows());
    if shape == (Some(2560), Some(6912), Some(128_256)) {
        return decide(Activation::Relu2, "since the shape is that of bitnet-b1.58-2B-4T".to_owned(), false);
    }
    decide(Activation::Silu, "which models under the label \"bitnet\" have as a rule".to_owned(), true)
}

fn i2_s(contents: &Contents, options: &GgufOptions, all: &mut Vec<Decision>) -> Codec {
    let Some(evidence) = evidence(contents) else { return Codec::I2S };
    let (codec, reason, is_guess) = match (options.i2_s_group, evidence.codec()) {
        (Some(64), _) => (Codec::I2SArm, BY_USER, false),
        (Some(_), _) => (Codec::I2S, BY_USER, false),
        (None, (codec, true)) => (codec, "in which the columns go with their norms", false),
        (None, (codec, false)) => (codec, "as in the published files, since the weights do not tell", true),
    };
    let chosen = if codec == Codec::I2S { "groups of 128 weights" } else { "groups of 64 weights" };
    all.push(Decision {
        about: "I2_S",
        chosen: chosen.to_owned(),
        reason: reason.to_owned(),
        option: "--gguf i2_s=128|64",
        is_guess,
    });
    codec
}

/// What the first blocks say of the layout; `None` in a file without `I2_S`.
fn evidence(contents: &Contents) -> Option<Evidence> {
    const BLOCKS: usize = 4;
    const PAIRS: [(&str, &str); 7] = [
        ("self_attn.q_proj", "input_layernorm"),
        ("self_attn.k_proj", "input_layernorm"),
        ("self_attn.v_proj", "input_layernorm"),
        ("self_attn.o_proj", "self_attn.attn_sub_norm"),
        ("mlp.gate_proj", "post_attention_layernorm"),
        ("mlp.up_proj", "post_attention_layernorm"),
        ("mlp.down_proj", "mlp.ffn_sub_norm"),
    ];
    contents.has_i2_s().then_some(())?;
    let mut evidence = Evidence::default();
    for block in 0..BLOCKS {
        for (linear, norm) in PAIRS {
            let name = |part: &str| format!("model.layers.{block}.{part}.weight");
            // A norm of its own stands between the projection and that of the block.
            let own = || contents.vector(&name(&format!("{linear}.norm")));
            let norm = || own().or_else(|| contents.vector(&name(norm)));
            if let (Some((bytes, cols)), Some(norm)) = (contents.i2_s(&name(linear)), norm()) {
                evidence.add(bytes, cols, &norm);
            }
        }
    }
    Some(evidence)
}

fn pre_tokenizer(contents: &Contents, options: &GgufOptions, all: &mut Vec<Decision>) -> Result<String> {
    const MODEL: &str = "tokenizer.ggml.model";
    const PRE: &str = "tokenizer.ggml.pre";
    let stored = contents.metadata.text(PRE)?;
    // Only byte-pair encoding over bytes splits texts first.
    if contents.metadata.text(MODEL)? != Some("gpt2") {
        return Ok(String::new());
    }
    let (chosen, reason, is_guess) = match (&options.pre_tokenizer, stored) {
        (Some(asked), _) => (asked.as_str(), BY_USER, false),
        (None, Some(stored)) => return Ok(stored.to_owned()),
        (None, None) => {
            (DEFAULT_PRE, "since the file names none and BitNet files without a name need it", false)
        }
    };
    all.push(Decision {
        about: "pre-tokenizer",
        chosen: chosen.to_owned(),
        reason: reason.to_owned(),
        option: "--gguf pre=NAME",
        is_guess,
    });
    Ok(chosen.to_owned())
}

fn pooling(contents: &Contents, options: &GgufOptions) -> Result<Option<usize>> {
    if options.pools_last_token {
        return Ok(Some(LAST_TOKEN));
    }
    contents.metadata.count(&format!("{}.pooling_type", contents.architecture()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_text() {
        let options: GgufOptions = "activation=silu,i2_s=64,pre=qwen2,pooling=last".parse().unwrap();
        assert_eq!(options.activation, Some(Activation::Silu));
        assert_eq!((options.i2_s_group, options.pre_tokenizer.as_deref()), (Some(64), Some("qwen2")));
        assert!(options.pools_last_token);
        assert_eq!("".parse::<GgufOptions>().unwrap(), GgufOptions::default());
        for text in ["activation=tanh", "i2_s=32", "i2_s", "pooling=mean", "colour=red", "=", "activation"] {
            let error = text.parse::<GgufOptions>().unwrap_err().to_string();
            assert!(error.starts_with("gguf must be ") && error.ends_with(&format!("not {text}")), "{error}");
        }
    }
}
