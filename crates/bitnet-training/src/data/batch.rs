//! What a training step reads.

/// Sequences, row by row.
///
/// The model sees `ids` at `positions`, and the loss is the mean cross-entropy of `targets` where `is_learnt`. A token sees
/// those of its own document in its row, `positions` of them and itself: the keys of the query at `t` are
/// `t - positions[t] ..= t`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Number of sequences.
    pub rows: usize,
    /// Inputs of each.
    pub seq_len: usize,
    /// `[rows, seq_len]`; 0 behind the last document of a row.
    pub ids: Vec<u32>,
    /// The token behind each of `ids`, `[rows, seq_len]`.
    pub targets: Vec<u32>,
    /// Whether a target is to be predicted, `[rows, seq_len]`: it belongs to the document of its input, and to an answer
    /// where the data are conversations.
    pub is_learnt: Vec<bool>,
    /// Tokens of the same document in front of each of `ids` in its row, `[rows, seq_len]`.
    pub positions: Vec<u32>,
}

impl Batch {
    /// An empty batch for so many sequences.
    pub(super) fn with_rows(rows: usize, seq_len: usize) -> Self {
        let len = rows * seq_len;
        let (ids, targets) = (Vec::with_capacity(len), Vec::with_capacity(len));
        let (is_learnt, positions) = (Vec::with_capacity(len), Vec::with_capacity(len));
        Self { rows: 0, seq_len, ids, targets, is_learnt, positions }
    }

    /// Targets to be predicted: those that the loss is the mean of.
    pub fn learnt(&self) -> usize {
        self.is_learnt.iter().filter(|&&is_learnt| is_learnt).count()
    }

    /// The batch in `count` parts of whole sequences, as equal as they can be; `count` is at most `rows`.
    pub fn parts(&self, count: usize) -> impl Iterator<Item = Self> {
        (0..count).map(move |part| {
            let rows = self.rows * part / count..self.rows * (part + 1) / count;
            let tokens = rows.start * self.seq_len..rows.end * self.seq_len;
            Self {
                rows: rows.len(),
                seq_len: self.seq_len,
                ids: self.ids[tokens.clone()].to_vec(),
                targets: self.targets[tokens.clone()].to_vec(),
                is_learnt: self.is_learnt[tokens.clone()].to_vec(),
                positions: self.positions[tokens].to_vec(),
            }
        })
    }

    /// The first token of its row that the token at `index` of `ids` sees.
    pub fn first_key(&self, index: usize) -> usize {
        index % self.seq_len - self.positions[index] as usize
    }
}
