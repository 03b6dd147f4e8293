//! Models to begin with, by name.

use std::collections::BTreeMap;

use bitnet_core::Buffer;
use bitnet_inference::Checkpoint;
use bitnet_inference::convert::description;
use serde_json::{Map, Value, json};

use crate::Result;
use crate::named::named;

/// A shape for a new model of the architecture `bitnet`, with the tokenizer of the embedded model, 2048 tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// That of the embedded model: 4 layers of width 256, 3.7 million parameters.
    Tiny,
    /// 6 layers of width 512, 19 million parameters.
    Mini,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 2] = [Self::Tiny, Self::Mini];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Mini => "mini",
        }
    }

    /// Files of a checkpoint without tensors. Errors: none of a library that is whole.
    pub(super) fn files(self) -> Result<BTreeMap<String, Buffer>> {
        let embedded = Checkpoint::embedded()?;
        let mut files = description(&embedded)?;
        let mut config: Map<String, Value> = embedded.json("config.json")?.unwrap_or_default();
        if self == Self::Mini {
            let sizes = [
                ("hidden_size", 512),
                ("intermediate_size", 1536),
                ("num_hidden_layers", 6),
                ("num_attention_heads", 8),
                ("num_key_value_heads", 2),
            ];
            config.extend(sizes.map(|(name, size)| (name.to_owned(), json!(size))));
        }
        files.insert("config.json".to_owned(), Value::from(config).to_string().into_bytes().into());
        Ok(files)
    }
}

named!(Preset, "preset", "tiny or mini");
