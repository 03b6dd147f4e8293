//! What a GGUF file says: its keys, and its tensors by their Hugging Face names.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use bitnet_core::{Buffer, Tensor};

use super::cursor::quoted;
use super::header::{Header, TensorInfo};
use super::metadata::Metadata;
use super::names::Names;
use super::split::{self, Part};
use super::tensor_type::TensorType;
use crate::{Error, Result};

const ARCHITECTURE: &str = "general.architecture";

/// Divisors of the rotary frequencies.
pub(crate) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The contents of a file.
#[derive(Debug)]
pub(crate) struct Contents {
    version: u32,
    /// The files; at least one.
    parts: Vec<Part>,
    pub(super) metadata: Metadata,
    names: Names,
    /// By their Hugging Face names; tensors without one keep their own.
    pub(super) tensors: BTreeMap<String, TensorInfo>,
    /// A tensor in GGUF, part of the config in Hugging Face.
    rope_factors: Option<TensorInfo>,
}

impl Contents {
    /// Reads the front of a file.
    pub(super) fn read(path: &Path, bytes: Buffer) -> Result<Self> {
        let header = Header::read(path, &bytes)?;
        let others = split::others(path, &header)?;
        let Header { version, metadata, tensors: infos } = header;
        let names = Names::of(metadata.text(ARCHITECTURE)?.unwrap_or_default());
        let mut contents = Self {
            version,
            parts: Vec::new(),
            metadata,
            names,
            tensors: BTreeMap::new(),
            rope_factors: None,
        };
        contents.add(Part { path: path.to_owned(), bytes }, infos)?;
        for (part, header) in others {
            contents.add(part, header.tensors)?;
        }
        contents.rope_factors = contents.tensors.remove(ROPE_FACTORS);
        Ok(contents)
    }

    /// Adds a file and its tensors.
    fn add(&mut self, part: Part, infos: Vec<TensorInfo>) -> Result<()> {
        self.parts.push(part);
        for mut info in infos {
            info.part = self.parts.len() - 1;
            let name = self.names.to_hugging_face(&info.name).unwrap_or_else(|| info.name.clone());
            if self.tensors.contains_key(&name) {
                return Err(self.error(&info, "every tensor once", "it a second time"));
            }
            self.tensors.insert(name, info);
        }
        Ok(())
    }

    /// The bytes of a tensor.
    pub(super) fn data(&self, info: &TensorInfo) -> Buffer {
        self.parts[info.part].bytes.slice(info.bytes.clone())
    }

    /// The file; of several, the first.
    pub(crate) fn path(&self) -> &Path {
        &self.parts[0].path
    }

    /// The file that holds a tensor, or that should.
    pub(crate) fn tensor_path(&self, name: &str) -> &Path {
        &self.parts[self.tensors.get(name).map_or(0, |info| info.part)].path
    }

    /// `general.architecture`.
    pub(crate) fn architecture(&self) -> Result<&str> {
        let missing = || self.metadata.error(ARCHITECTURE, "the name of an architecture", "nothing");
        self.metadata.text(ARCHITECTURE)?.ok_or_else(missing)
    }

    /// Keys and values.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Version, and how the matrices of the blocks are encoded.
    pub(crate) fn format(&self) -> String {
        let linears = self.tensors.iter().filter(|(name, _)| is_linear(name));
        let mut types: Vec<&str> = linears.map(|(_, tensor)| tensor.tensor_type.name()).collect();
        types.sort_unstable();
        types.dedup();
        let in_parts = match self.parts.len() {
            1 => String::new(),
            parts => format!(", in {parts} parts"),
        };
        format!("GGUF version {}, {}{in_parts}", self.version, types.join(" and "))
    }

    /// Names of all tensors, sorted.
    pub(crate) fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The name that a tensor has, or would have, in the file.
    pub(crate) fn stored_name<'a>(&self, name: &'a str) -> Cow<'a, str> {
        self.names.to_gguf(name).map_or(Cow::Borrowed(name), Cow::Owned)
    }

    /// Rows of the embedding.
    pub(crate) fn vocabulary_rows(&self) -> Option<usize> {
        self.tensors.get("model.embed_tokens.weight").map(|tensor| tensor.shape().0)
    }

    /// Whether a matrix of a block is ternary.
    pub(crate) fn has_ternary(&self) -> bool {
        self.tensors.iter().any(|(name, tensor)| is_linear(name) && tensor.tensor_type.codec().is_some())
    }

    /// Whether projections have norms of their own, as in BitNet models of other architectures.
    pub(crate) fn has_own_norms(&self) -> bool {
        self.tensors.keys().any(|name| name.ends_with(OWN_NORM))
    }

    /// Whether a module such as `self_attn` has biases.
    pub(crate) fn has_bias(&self, module: &str) -> bool {
        self.tensors.keys().any(|name| name.contains(module) && name.rsplit('.').next() == Some("bias"))
    }

    /// The divisor of each of `pairs` rotary frequencies, if the file has them.
    pub(crate) fn rope_factors(&self, pairs: usize) -> Result<Option<Vec<f32>>> {
        let Some(info) = &self.rope_factors else { return Ok(None) };
        if info.tensor_type != TensorType::F32 || info.dims != [pairs] {
            let expected = format!("a factor for each of {pairs} frequencies in F32");
            let got = format!("{} of shape {:?}", info.tensor_type.name(), info.dims);
            return Err(self.error(info, &expected, got));
        }
        let factors = self.data(info).typed::<f32>().to_vec();
        match factors.iter().position(|factor| !(factor.is_finite() && *factor > 0.0)) {
            Some(at) => {
                Err(self.error(info, "finite factors above 0", format!("{} at index {at}", factors[at])))
            }
            None => Ok(Some(factors)),
        }
    }

    /// An error about a tensor.
    pub(super) fn error(&self, info: &TensorInfo, expected: &str, got: impl Into<String>) -> Error {
        let what = format!("tensor {}", quoted(&info.name));
        Error::gguf(&self.parts[info.part].path, &what, info.bytes.start, expected, got)
    }

    /// Whether a tensor is in `I2_S`.
    pub(super) fn has_i2_s(&self) -> bool {
        self.tensors.values().any(|tensor| tensor.tensor_type == TensorType::I2_S)
    }

    /// Bytes of the codes and number of columns of a matrix in `I2_S`.
    pub(super) fn i2_s(&self, name: &str) -> Option<(&[u8], usize)> {
        let tensor = self.tensors.get(name).filter(|tensor| tensor.tensor_type == TensorType::I2_S)?;
        let codes = tensor.bytes.start..tensor.bytes.end - tensor.tensor_type.tail();
        Some((&self.parts[tensor.part].bytes[codes], tensor.shape().1))
    }

    /// A vector of floats, as norms are stored.
    pub(super) fn vector(&self, name: &str) -> Option<Vec<f32>> {
        let info = self.tensors.get(name)?;
        let dtype = info.tensor_type.dtype()?;
        Tensor::new(dtype, info.dims.as_slice(), self.data(info)).ok()?.to_f32().ok()
    }
}

/// Whether a tensor is a matrix of a block.
pub(super) fn is_linear(name: &str) -> bool {
    name.ends_with("_proj.weight")
}

/// The end of the name of a norm in front of a projection.
const OWN_NORM: &str = "_proj.norm.weight";

/// Whether a tensor is a norm of the architecture, which has those in front of projections in no model but BitNet ones.
pub(super) fn is_plain_norm(name: &str) -> bool {
    name.ends_with("norm.weight") && !name.ends_with(OWN_NORM)
}
