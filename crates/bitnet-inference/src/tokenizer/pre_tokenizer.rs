//! How texts are split in front of byte-pair encoding, by the names of `tokenizer.ggml.pre`.
//!
//! Sources: llama.cpp, `src/llama-vocab.cpp`, which also quotes the expressions of the models' own `tokenizer.json`.

use serde_json::Value;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

/// Words with the character in front of them, up to three digits, runs of other signs.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with digits one by one.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A way to split texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct PreTokenizer {
    names: &'static [&'static str],
    pattern: Pattern,
    /// Whether a word that is a token is one, whatever the merges make of it.
    pub(super) takes_whole_words: bool,
    /// Whether texts begin with the BOS token in a file that does not say.
    pub(super) adds_bos: bool,
}

#[derive(Debug, Clone, Copy)]
enum Pattern {
    Regex(&'static str),
    /// GPT-2's own expression.
    Gpt2,
    /// The same behind single digits.
    DigitsAndGpt2,
}

const ALL: [PreTokenizer; 5] = [
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3"],
        pattern: Pattern::Regex(LLAMA3),
        takes_whole_words: true,
        adds_bos: true,
    },
    PreTokenizer {
        names: &["dbrx", "smaug-bpe"],
        pattern: Pattern::Regex(LLAMA3),
        takes_whole_words: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["qwen2", "deepseek-r1-qwen", "stablelm2"],
        pattern: Pattern::Regex(QWEN2),
        takes_whole_words: false,
        adds_bos: false,
    },
    PreTokenizer { names: &["gpt-2"], pattern: Pattern::Gpt2, takes_whole_words: false, adds_bos: false },
    PreTokenizer {
        names: &["smollm", "starcoder", "refact"],
        pattern: Pattern::DigitsAndGpt2,
        takes_whole_words: false,
        adds_bos: false,
    },
];

/// The pre-tokenizer of a name.
pub(super) fn find(name: &str) -> Result<PreTokenizer, String> {
    ALL.into_iter().find(|one| one.names.contains(&name)).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().flat_map(|one| one.names).copied().collect();
        format!(
            "tokenizer.ggml.pre is {name:?}, which is not supported; --gguf pre=NAME takes one of {}",
            known.join(", ")
        )
    })
}

/// The name of a pre-tokenizer of `tokenizer.json`, of a model that takes whole words or does not.
pub(super) fn name(json: Option<&Value>, takes_whole_words: bool) -> Option<&'static str> {
    let is_it = |one: &PreTokenizer| {
        let own = one.build().ok().and_then(|own| serde_json::to_value(own).ok());
        one.takes_whole_words == takes_whole_words && own.as_ref() == json
    };
    ALL.iter().find(|one| is_it(one))?.names.first().copied()
}

impl PreTokenizer {
    /// Made of the parts of the tokenizers crate.
    pub(super) fn build(self) -> Result<PreTokenizerWrapper, String> {
        let bytes = |use_regex| PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, use_regex));
        let parts = match self.pattern {
            Pattern::Gpt2 => return Ok(bytes(true)),
            Pattern::DigitsAndGpt2 => vec![PreTokenizerWrapper::Digits(Digits::new(true)), bytes(true)],
            Pattern::Regex(regex) => {
                let pattern = SplitPattern::Regex(regex.to_owned());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                    .map_err(|error| error.to_string())?;
                vec![PreTokenizerWrapper::Split(split), bytes(false)]
            }
        };
        Ok(PreTokenizerWrapper::Sequence(Sequence::new(parts)))
    }
}
