//! How often guesses are right.

/// Weight of an outcome when the next one has come.
const MEMORY: f64 = 1.0 - 1.0 / 32.0;

/// A share of outcomes, the latest of which count most.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    right: f64,
    all: f64,
}

impl Rate {
    /// A guess was right, or wrong.
    pub(super) fn record(&mut self, is_right: bool) {
        self.forget();
        self.right += f64::from(u8::from(is_right));
        self.all += 1.0;
    }

    /// Nothing was guessed: what was known is a little older.
    pub(super) fn forget(&mut self) {
        self.right *= MEMORY;
        self.all *= MEMORY;
    }

    /// The share, with `before` as good as one outcome.
    pub(super) fn share(self, before: f64) -> f64 {
        (self.right + before) / (self.all + 1.0)
    }
}
