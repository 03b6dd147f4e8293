//! The tokens of a batch as rows of activations, those of the first sequence first.

use crate::backend::{Page, Work};

/// The rows of a computation: all tokens of a batch, or those whose outputs are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    batch: &'a [Work<'a>],
    only_outputs: bool,
}

/// Rows of one sequence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span<'a> {
    pub(super) pages: &'a [Page],
    /// The first row.
    pub(super) row: usize,
    /// Number of rows.
    pub(super) tokens: usize,
    /// Position of the first row's token in its sequence.
    pub(super) position: usize,
    /// Tokens of the sequence in front of these that are in the batch, too.
    pub(super) skipped: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn all(batch: &'a [Work<'a>]) -> Self {
        Self { batch, only_outputs: false }
    }

    pub(super) fn outputs(batch: &'a [Work<'a>]) -> Self {
        Self { batch, only_outputs: true }
    }

    /// Number of rows.
    pub(super) fn len(self) -> usize {
        self.batch.iter().map(|work| self.tokens(work)).sum()
    }

    /// Sequences, in order; some may have no rows.
    pub(super) fn spans(self) -> impl Iterator<Item = Span<'a>> {
        let mut row = 0;
        self.batch.iter().map(move |work| {
            let tokens = self.tokens(work);
            let skipped = work.ids.len() - tokens;
            row += tokens;
            Span { pages: work.pages, row: row - tokens, tokens, position: work.position + skipped, skipped }
        })
    }

    fn tokens(self, work: &Work<'_>) -> usize {
        if self.only_outputs { work.outputs.min(work.ids.len()) } else { work.ids.len() }
    }
}

impl Span<'_> {
    /// Where the keys and values of row `index` of the span lie.
    pub(super) fn place(&self, index: usize) -> (Page, usize) {
        let position = self.position + index;
        (self.pages[position / crate::backend::PAGE], position % crate::backend::PAGE)
    }
}
