//! The order of the rows of queries and keys: that of Hugging Face, and that of llama.cpp's `llama` files.
//!
//! Row `(head, half, i)` of the one is row `(head, i, half)` of the other, which has the two rows that rotate together
//! side by side. Source: llama.cpp, `convert_hf_to_gguf.py`, `LlamaModel.permute`.

use super::tensor_type::TensorType;

/// The two orders of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// `(head, half, i)`.
    HuggingFace,
    /// `(head, i, half)`.
    LlamaCpp,
}

impl RowOrder {
    /// Where row `row` of a head in this order stands in the other.
    pub(crate) fn source(self, row: usize, head_dim: usize) -> usize {
        let half = head_dim / 2;
        match self {
            Self::HuggingFace => row % half * 2 + row / half,
            Self::LlamaCpp => row % 2 * half + row / 2,
        }
    }
}

/// Brings the rows of a tensor from the other order `to` this one; a bias has rows of one value. Rows are whole blocks
/// and a head is an even number of them.
pub(crate) fn reorder(
    bytes: &[u8],
    tensor_type: TensorType,
    heads: usize,
    head_dim: usize,
    to: RowOrder,
) -> Vec<u8> {
    let (rows, scale) = bytes.split_at(bytes.len() - tensor_type.tail());
    let row = rows.len() / (heads * head_dim);
    let from = |at: usize| at - at % head_dim + to.source(at % head_dim, head_dim);
    let rows = (0..heads * head_dim).flat_map(|at| &rows[from(at) * row..][..row]);
    rows.chain(scale).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_come_apart_and_together() {
        // Two heads of four rows, each a row of one byte.
        let (theirs, ours) = ([0, 2, 1, 3, 10, 12, 11, 13], [0, 1, 2, 3, 10, 11, 12, 13]);
        let reorder = |bytes: &[u8], to| reorder(bytes, TensorType::F32, 2, 4, to);
        assert_eq!(reorder(&theirs, RowOrder::HuggingFace), ours);
        assert_eq!(reorder(&ours, RowOrder::LlamaCpp), theirs);
    }

    #[test]
    fn orders_undo_each_other_and_keep_the_scale_at_the_end() {
        let bytes: Vec<u8> = (0..96 + 32).collect();
        let there = reorder(&bytes, TensorType::I2_S, 3, 16, RowOrder::LlamaCpp);
        assert_eq!(there[96..], bytes[96..]);
        assert_eq!(reorder(&there, TensorType::I2_S, 3, 16, RowOrder::HuggingFace), bytes);
    }
}
