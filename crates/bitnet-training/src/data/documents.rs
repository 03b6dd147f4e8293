//! Tokens in the making, document by document.

use bitnet_core::DType;
use bitnet_inference::convert::safetensors::Spec;

pub(super) const IDS: &str = "ids";
pub(super) const DOCUMENTS: &str = "documents";
pub(super) const LOSS: &str = "loss";

/// The tokens of documents, one behind another.
#[derive(Debug, Default)]
pub(super) struct Documents {
    ids: Vec<i32>,
    starts: Vec<i64>,
    loss: Vec<u8>,
}

impl Documents {
    /// Begins a document; the one before is none when it has no tokens.
    pub(super) fn begin(&mut self) {
        self.drop_empty();
        self.starts.push(self.ids.len() as i64);
    }

    /// Adds tokens to the last document; `is_learnt` is whether they are to be predicted.
    pub(super) fn extend(&mut self, ids: &[u32], is_learnt: bool) {
        self.ids.extend(ids.iter().map(|&id| id as i32));
        self.loss.resize(self.ids.len(), u8::from(is_learnt));
    }

    /// Adds the documents of another.
    pub(super) fn append(&mut self, other: &Self) {
        self.drop_empty();
        let first = self.ids.len() as i64;
        self.starts.extend(other.starts.iter().map(|start| first + start));
        self.ids.extend(&other.ids);
        self.loss.extend(&other.loss);
    }

    pub(super) fn ids(&self) -> &[i32] {
        &self.ids
    }

    /// The tensors of a file, with their bytes.
    pub(super) fn tensors(&mut self) -> (Vec<Spec>, Vec<&[u8]>) {
        self.drop_empty();
        let spec = |name: &str, dtype, len| Spec { name: name.to_owned(), dtype, dims: vec![len] };
        let mut specs =
            vec![spec(IDS, DType::I32, self.ids.len()), spec(DOCUMENTS, DType::I64, self.starts.len())];
        let mut bytes = vec![bytemuck::cast_slice(&self.ids), bytemuck::cast_slice(&self.starts)];
        if self.loss.contains(&0) {
            specs.push(spec(LOSS, DType::U8, self.loss.len()));
            bytes.push(&self.loss);
        }
        (specs, bytes)
    }

    fn drop_empty(&mut self) {
        let end = self.ids.len() as i64;
        self.starts.pop_if(|start| *start == end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_without_tokens_are_none() {
        let mut documents = Documents::default();
        documents.begin();
        documents.begin();
        documents.extend(&[1, 2], true);
        documents.begin();
        let mut other = Documents::default();
        other.begin();
        other.extend(&[3], false);
        other.begin();
        documents.append(&other);
        let (specs, bytes) = documents.tensors();
        let starts: &[i64] = bytemuck::cast_slice(bytes[1]);
        assert_eq!((specs[1].dims[0], starts, bytes[2]), (2, &[0, 2][..], &[1, 1, 0][..]));
    }
}
