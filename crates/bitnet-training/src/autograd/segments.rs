//! Where the documents of a batch begin: a token attends to those before it in its own.

use std::ops::Range;
use std::sync::Arc;

use crate::{Error, Result};

/// Documents that lie one behind the other. Positions count from 0 in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// Where each begins, and at last where all end.
    bounds: Arc<[usize]>,
}

impl Segments {
    /// Documents of these lengths.
    ///
    /// Errors: [`Error::InvalidOption`] for one of no tokens.
    pub fn new(lengths: impl IntoIterator<Item = usize>) -> Result<Self> {
        let mut bounds = vec![0];
        for length in lengths {
            if length == 0 {
                let (expected, got) = ("at least 1", "0".to_owned());
                return Err(Error::InvalidOption { name: "the length of a document", expected, got });
            }
            bounds.push(bounds[bounds.len() - 1] + length);
        }
        Ok(Self { bounds: bounds.into() })
    }

    /// A batch of rows that are a document each. Errors: as [`Self::new`].
    pub fn rows(batch: usize, seq_len: usize) -> Result<Self> {
        Self::new(std::iter::repeat_n(seq_len, batch))
    }

    /// Tokens of all documents.
    pub fn tokens(&self) -> usize {
        self.bounds[self.bounds.len() - 1]
    }

    /// Number of documents.
    pub fn count(&self) -> usize {
        self.bounds.len() - 1
    }

    /// The tokens of a document.
    pub fn range(&self, document: usize) -> Range<usize> {
        self.bounds[document]..self.bounds[document + 1]
    }

    /// Tokens of the longest document.
    pub fn longest(&self) -> usize {
        (0..self.count()).map(|document| self.range(document).len()).max().unwrap_or(0)
    }

    /// The position of every token in its document.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        (0..self.count()).flat_map(|document| 0..self.range(document).len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_lie_one_behind_the_other() {
        let segments = Segments::new([2, 3]).unwrap();
        assert_eq!((segments.tokens(), segments.count(), segments.longest()), (5, 2, 3));
        assert_eq!(segments.range(1), 2..5);
        assert_eq!(segments.positions().collect::<Vec<_>>(), [0, 1, 0, 1, 2]);
        assert_eq!(Segments::rows(2, 4).unwrap(), Segments::new([4, 4]).unwrap());
        assert!(Segments::new([2, 0]).is_err());
    }
}
