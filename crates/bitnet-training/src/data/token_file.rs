//! The tokens of one file, memory-mapped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitnet_core::{Buffer, DType, Tensor};
use bitnet_inference::checkpoint::safetensors;

use super::documents::{DOCUMENTS, IDS, LOSS};
use crate::{Error, Result};

/// The tokens of one file and where its documents begin. Every id is inside the vocabulary.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    key: String,
    ids: Buffer<i32>,
    documents: Buffer<i64>,
    loss: Option<Buffer<u8>>,
}

impl TokenFile {
    /// Checks the tokens of `path`, which are stored in `bytes`; `key` names what they were made of.
    ///
    /// Errors: [`Error::TokenOutOfRange`]; others for files that are damaged.
    pub(super) fn new(path: &Path, key: String, bytes: &Buffer, vocab_size: usize) -> Result<Self> {
        let mut tensors = safetensors::read(path, bytes)?;
        let mut take = |name: &str, dtype: DType| take(path, &mut tensors, name, dtype);
        let ids = take(IDS, DType::I32)?.ok_or_else(|| Error::data(path, "has no tensor ids"))?.typed();
        let documents = take(DOCUMENTS, DType::I64)?;
        let documents = documents.map_or_else(|| Buffer::from(vec![0]), |documents| documents.typed());
        let loss = take(LOSS, DType::U8)?;
        let file = Self { path: path.to_owned(), key, ids, documents, loss };
        file.check(vocab_size)?;
        Ok(file)
    }

    fn check(&self, vocab_size: usize) -> Result<()> {
        let refuse = |reason: &str| Err(Error::data(&self.path, reason));
        if self.ids.is_empty() {
            return refuse("has no tokens");
        }
        let is_ascending = self.documents.windows(2).all(|pair| pair[0] < pair[1]);
        let is_inside = self.documents.last().is_some_and(|last| *last < self.ids.len() as i64);
        if self.documents.first() != Some(&0) || !is_ascending || !is_inside {
            return refuse("its documents do not begin at 0 and ascend to its last token");
        }
        if self
            .loss
            .as_ref()
            .is_some_and(|loss| loss.len() != self.ids.len() || loss.iter().any(|&of| of > 1))
        {
            return refuse("its loss is not 0 or 1 for each token");
        }
        match self.ids.iter().position(|&id| id < 0 || id as usize >= vocab_size) {
            None => Ok(()),
            Some(index) => {
                let (path, id) = (self.path.clone(), i64::from(self.ids[index]));
                Err(Error::TokenOutOfRange { path, index, id, vocab_size })
            }
        }
    }

    /// The file that the tokens are those of.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256, in hexadecimal, of the file and of all that its tokens depend on.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The token ids.
    pub fn ids(&self) -> &[i32] {
        &self.ids
    }

    /// Where each document begins.
    pub fn documents(&self) -> &[i64] {
        &self.documents
    }

    /// Which tokens are to be learnt, 1 or 0 each; `None` where all are.
    pub fn loss(&self) -> Option<&[u8]> {
        self.loss.as_deref()
    }
}

/// The bytes of a tensor of one dimension.
fn take(
    path: &Path,
    tensors: &mut BTreeMap<String, Tensor>,
    name: &str,
    dtype: DType,
) -> Result<Option<Buffer>> {
    let Some(tensor) = tensors.remove(name) else { return Ok(None) };
    if tensor.dtype() != dtype || tensor.rank() != 1 {
        let got = format!("{} of shape {}", tensor.dtype(), tensor.shape());
        return Err(Error::data(path, format!("tensor {name} must be {dtype} of one dimension, not {got}")));
    }
    Ok(Some(tensor.data().clone()))
}
