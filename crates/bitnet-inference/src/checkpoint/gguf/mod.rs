//! GGUF files: the format of llama.cpp, bitnet.cpp and their relatives, versions 2 and 3, in one file or several.
//!
//! `header` checks where everything is, `split` finds further parts; `contents` gives it the names of Hugging Face, and
//! what is here the order of rows and the weights of norms, so that one loader serves both formats. What a file leaves
//! open is settled in `decision`.

mod blocks;
mod contents;
mod cursor;
mod decision;
mod header;
mod i2_s;
mod interleaved;
mod metadata;
mod names;
mod rows;
mod split;
mod tensor_type;
#[cfg(test)]
mod tests;
mod vocabulary;
mod writer;

use std::path::Path;

use bitnet_core::{Buffer, DType, Tensor, ThreadPool};
use bitnet_quant::{Codec, TernaryMatrix};

#[cfg(test)]
pub(crate) use self::blocks::q6_k as q6_k_decode;
pub(crate) use self::blocks::q6_k_place;
pub(crate) use self::contents::{Contents, ROPE_FACTORS};
use self::contents::{is_linear, is_plain_norm};
use self::decision::Decided;
pub use self::decision::{Decision, GgufOptions};
pub(crate) use self::decision::{LAST_TOKEN, MEAN};
use self::header::TensorInfo;
pub(crate) use self::metadata::Metadata;
pub(crate) use self::rows::{RowOrder, reorder};
#[cfg(feature = "hub")]
pub(crate) use self::split::PartName;
pub(crate) use self::split::{entries, part_paths};
pub(crate) use self::tensor_type::TensorType;
pub(crate) use self::vocabulary::{TokenKind, Vocabulary};
pub(crate) use self::writer::Writer;
use super::Stored;
use crate::Result;
use crate::activation::Activation;

/// Names of architectures that are BitNet ones whatever their tensors are.
pub(crate) const BITNETS: [&str; 3] = [BITNET, "bitnet-25", "bitnet-b1.58"];
const BITNET: &str = "bitnet";
/// The architecture whose queries and keys are stored in another order.
pub(crate) const LLAMA: &str = "llama";
pub(crate) const QWEN3: &str = "qwen3";
/// The architecture whose norms are stored with 1 added to their weights.
pub(crate) const GEMMA3: &str = "gemma3";

/// A GGUF file, mapped and checked, and what was made of it where it is silent.
#[derive(Debug)]
pub(crate) struct Gguf {
    contents: Contents,
    decided: Decided,
}

/// A ternary tensor as it is stored.
#[derive(Debug, Clone)]
pub struct EncodedTernary {
    /// How.
    pub codec: Codec,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Its bytes.
    pub bytes: Buffer,
}

impl EncodedTernary {
    /// The matrix, decoded with the threads of `pool`.
    ///
    /// Errors: those of [`Codec::decode`].
    pub fn decode(&self, pool: &ThreadPool) -> bitnet_quant::Result<TernaryMatrix> {
        self.codec.decode(pool, self.rows, self.cols, &self.bytes)
    }
}

impl Gguf {
    /// Reads the front of a file and decides what it leaves open.
    pub(super) fn open(path: &Path, bytes: Buffer, options: &GgufOptions) -> Result<Self> {
        let contents = Contents::read(path, bytes)?;
        let decided = Decided::new(&contents, options)?;
        Ok(Self { contents, decided })
    }

    /// All that the file says.
    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// What the file left open.
    pub(crate) fn decisions(&self) -> &[Decision] {
        &self.decided.all
    }

    /// The nonlinearity.
    pub(crate) fn activation(&self) -> Activation {
        self.decided.activation
    }

    /// How the vector of a text is made of those of its tokens, as a number of llama.cpp's, if anything says.
    pub(crate) fn pooling(&self) -> Option<usize> {
        self.decided.pooling
    }

    /// The tokens and how texts are made into them, if the file has them.
    pub(crate) fn vocabulary(&self) -> Result<Option<Vocabulary<'_>>> {
        Vocabulary::read(&self.contents.metadata, &self.decided.pre_tokenizer)
    }

    /// A tensor by its Hugging Face name, with the rows and the weights that it has there.
    pub(super) fn tensor(&self, name: &str) -> Result<Option<Stored>> {
        let Some(info) = self.contents.tensors.get(name) else { return Ok(None) };
        let bytes = match self.permuted_heads(name)? {
            Some(heads) => Buffer::from(self.unpermuted(info, heads)?),
            None => self.in_rows(info),
        };
        if let Some(codec) = self.codec(info.tensor_type) {
            let (rows, cols) = info.shape();
            return Ok(Some(Stored::Encoded(EncodedTernary { codec, rows, cols, bytes })));
        }
        let (dtype, bytes) = match info.tensor_type.dtype() {
            Some(dtype) => (dtype, bytes),
            None if is_linear(name) => {
                let got = format!("blocks of {}", info.tensor_type.name());
                return Err(self.contents.error(info, "ternary or plain float weights", got));
            }
            None => {
                let weights = blocks::widen(info.tensor_type, &bytes)?.map_err(|at| {
                    let got = format!("a larger one at index {at}");
                    self.contents.error(info, "weights that float16 can hold", got)
                })?;
                (DType::F16, weights)
            }
        };
        let mut tensor = Tensor::new(dtype, info.dims.as_slice(), bytes).map_err(|error| {
            self.contents.error(info, "bytes that follow from the shape", error.to_string())
        })?;
        if is_plain_norm(name) && self.contents.architecture()? == GEMMA3 {
            tensor = less_one(&tensor)?;
        }
        Ok(Some(Stored::Plain(tensor)))
    }

    /// The bytes of a tensor, row by row.
    fn in_rows(&self, info: &TensorInfo) -> Buffer {
        let bytes = self.contents.data(info);
        match info.tensor_type {
            TensorType::IQ2_BN_R4 => interleaved::separated(&bytes, info.shape().1).into(),
            _ => bytes,
        }
    }

    /// How a ternary type is encoded in this file.
    fn codec(&self, tensor_type: TensorType) -> Option<Codec> {
        let codec = tensor_type.codec()?;
        Some(if codec == Codec::I2S { self.decided.i2_s } else { codec })
    }

    /// The heads of a projection whose rows are stored in another order.
    fn permuted_heads(&self, name: &str) -> Result<Option<usize>> {
        let is_query = name.contains(".q_proj.");
        if self.contents.architecture()? != LLAMA || !(is_query || name.contains(".k_proj.")) {
            return Ok(None);
        }
        let heads = self.contents.metadata.count("llama.attention.head_count")?;
        if is_query {
            return Ok(heads);
        }
        Ok(self.contents.metadata.count("llama.attention.head_count_kv")?.or(heads))
    }

    fn unpermuted(&self, info: &TensorInfo, heads: usize) -> Result<Vec<u8>> {
        let (rows, cols) = info.shape();
        // A bias has a value for every row of its matrix.
        let (rows, cols) = if info.dims.len() == 1 { (cols, 1) } else { (rows, cols) };
        let is_i2_s = info.tensor_type == TensorType::I2_S;
        let are_pairs = heads > 0 && rows.is_multiple_of(heads) && (rows / heads).is_multiple_of(2);
        if !are_pairs || is_i2_s && !cols.is_multiple_of(info.tensor_type.block().0) {
            let expected = format!("{heads} heads of an even number of rows, each row in whole blocks");
            return Err(self.contents.error(info, &expected, format!("shape {:?}", info.dims)));
        }
        Ok(reorder(&self.in_rows(info), info.tensor_type, heads, rows / heads, RowOrder::HuggingFace))
    }
}

/// The weights of a norm less 1, as Hugging Face stores Gemma's. What came of adding 1 in float32 comes back when 1 is
/// added again, and so do positive weights in float16.
fn less_one(weights: &Tensor) -> bitnet_core::Result<Tensor> {
    let bytes: Vec<u8> = weights.to_f32()?.iter().flat_map(|weight| (weight - 1.0).to_le_bytes()).collect();
    Tensor::new(DType::F32, weights.dims(), Buffer::from(bytes))
}
