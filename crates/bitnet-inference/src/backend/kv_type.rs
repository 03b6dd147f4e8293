//! How keys and values are stored.

use std::fmt;
use std::str::FromStr;

use super::PAGE;
use crate::config::ModelConfig;
use crate::{Error, Result};

/// The type of the elements of a KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// As they are computed: loses nothing.
    #[default]
    F32,
    /// Half the bytes; rounds to 11 bits.
    F16,
    /// A quarter of the bytes; 8 bits with one scale for each position and head.
    I8,
}

impl KvType {
    /// Every type, the largest first.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::I8];

    /// Name in options and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I8 => "int8",
        }
    }

    /// Bytes of an element.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::I8 => 1,
        }
    }

    /// Bytes of keys and values of one position of a head, scales included.
    pub(crate) fn position_bytes(self, head_dim: usize) -> usize {
        let scale = if self == Self::I8 { size_of::<f32>() } else { 0 };
        2 * (self.size_bytes() * head_dim + scale)
    }

    /// Bytes of keys and values of a page of a model.
    pub(crate) fn page_bytes(self, config: &ModelConfig) -> usize {
        PAGE * config.layers * config.kv_heads * self.position_bytes(config.head_dim)
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for KvType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let (expected, got) = ("f32, f16 or int8", name.to_owned());
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or(Error::InvalidOption {
            name: "kv_cache",
            expected,
            got,
        })
    }
}
