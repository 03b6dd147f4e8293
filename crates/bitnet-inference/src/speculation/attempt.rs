//! What a sequence computes in a step, and which of its outputs count.

use std::ops::Range;

use super::Guesses;

/// The tokens of a step, pending ones and guesses behind them, and the outputs that tokens are still to be chosen from.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    ids: Vec<u32>,
    guesses: usize,
    /// Outputs that were not looked at yet.
    open: Range<usize>,
    counts: Guesses,
}

impl Attempt {
    /// Starts anew with pending tokens.
    pub(crate) fn begin(&mut self, pending: &[u32]) {
        self.ids.clear();
        self.ids.extend_from_slice(pending);
        self.guesses = 0;
        self.close();
    }

    /// Adds guesses of what follows.
    pub(crate) fn guess(&mut self, guesses: &[u32]) {
        self.ids.extend_from_slice(guesses);
        self.guesses += guesses.len();
    }

    /// Does without its guesses; false when there are none.
    pub(crate) fn drop_guesses(&mut self) -> bool {
        self.ids.truncate(self.pending());
        std::mem::take(&mut self.guesses) > 0
    }

    /// Forgets all tokens.
    pub(crate) fn clear(&mut self) {
        self.begin(&[]);
    }

    /// What is to be computed.
    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// How many of the tokens are no guesses.
    pub(crate) fn pending(&self) -> usize {
        self.ids.len() - self.guesses
    }

    /// How many are guesses.
    pub(crate) fn guesses(&self) -> usize {
        self.guesses
    }

    /// Its tokens were computed; the outputs of the last pending token and of the guesses are `first` and those behind it.
    /// Returns the end.
    pub(crate) fn open(&mut self, first: usize) -> usize {
        self.open = first..first + self.guesses + 1;
        self.open.end
    }

    /// Gives up the outputs that are left.
    pub(crate) fn close(&mut self) {
        self.open = 0..0;
    }

    /// Whether there are outputs to choose from.
    pub(crate) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Outputs to choose from now: all that are left where the cut is fixed, or one where each choice changes it.
    pub(crate) fn next(&self, has_fixed_cut: bool) -> Range<usize> {
        let end = if has_fixed_cut { self.open.end } else { self.open.start + 1 };
        self.open.start..end.min(self.open.end)
    }

    /// A token was chosen from the first of the open outputs; `None` ends the text. True when it is what was guessed: the
    /// next output is then open. Else none is.
    pub(crate) fn settle(&mut self, chosen: Option<u32>) -> bool {
        let guess = self.ids.len() + 1 - self.open.len();
        if guess == self.pending() {
            self.counts.proposed += self.guesses as u64;
        }
        self.open.start += 1;
        let is_right = chosen.is_some() && chosen == self.ids.get(guess).copied();
        if is_right {
            self.counts.accepted += 1;
        } else {
            self.close();
        }
        is_right
    }

    /// All guesses so far.
    pub(crate) fn counts(&self) -> Guesses {
        self.counts
    }
}
