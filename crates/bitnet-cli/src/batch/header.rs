//! What the texts of a batch depend on, besides the prompts.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

use bitnet_inference::{GenerateOptions, SamplingOptions};
use serde::{Deserialize, Serialize};

use crate::args::BatchArgs;

/// The first line of a file of rows in the making. Threads, batch size and guesses are not in it: texts do not depend on
/// them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Of the layout of these files.
    version: u32,
    model: Option<String>,
    #[serde(default)]
    adapter: Option<PathBuf>,
    /// Of the generation, all but seed and guesses.
    options: String,
    kv_cache: String,
    field: String,
    /// Whether prompts go through the chat template.
    pub(super) chat: bool,
    pub(super) system: Option<String>,
    /// Whether the seed was asked for.
    has_seed: bool,
    /// Of the first row; each next one has the next number.
    pub(super) seed: u64,
}

impl Header {
    const VERSION: u32 = 1;

    /// That of a command. The seed is a random one where the command has none.
    pub(super) fn new(args: &BatchArgs, options: &GenerateOptions) -> Self {
        let seed = options.sampling.seed;
        let sampling = SamplingOptions { seed: None, ..options.sampling.clone() };
        let without_seed = GenerateOptions { sampling, ..options.clone() };
        Self {
            version: Self::VERSION,
            model: args.model.name().map(str::to_owned),
            adapter: args.model.adapter().map(Path::to_owned),
            options: format!("{without_seed:?}"),
            kv_cache: args.model.kv_type().to_string(),
            field: args.field.clone(),
            chat: args.is_chat(),
            system: args.system.clone(),
            has_seed: seed.is_some(),
            // The keys of the standard library's hash maps come from the operating system.
            seed: seed.unwrap_or_else(|| RandomState::new().build_hasher().finish()),
        }
    }

    /// Whether a command that asks for `self` can go on with what this one began. The seed is then that of the beginning.
    pub(super) fn goes_on_with(&self, asked: &Self) -> bool {
        let is_same_seed = !asked.has_seed || self.seed == asked.seed;
        is_same_seed && *self == Self { seed: self.seed, has_seed: self.has_seed, ..asked.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_seed_that_is_asked_for_has_to_agree() {
        let header = |seed: Option<u64>, model: &str| Header {
            version: Header::VERSION,
            model: Some(model.to_owned()),
            adapter: None,
            options: String::new(),
            kv_cache: "f32".to_owned(),
            field: "prompt".to_owned(),
            chat: false,
            system: None,
            has_seed: seed.is_some(),
            seed: seed.unwrap_or(99),
        };
        let begun = header(Some(0), "a");
        assert!(begun.goes_on_with(&header(Some(0), "a")) && begun.goes_on_with(&header(None, "a")));
        assert!(!begun.goes_on_with(&header(Some(1), "a")) && !begun.goes_on_with(&header(None, "b")));
        assert!(!header(None, "a").goes_on_with(&header(Some(0), "a")));
    }
}
