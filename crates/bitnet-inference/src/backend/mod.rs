//! Providers of computation. The engine knows these two traits and names no provider.

pub mod cpu;
mod cut;
mod kv_type;
mod page;
mod sequence;
mod traffic;
mod work;

use std::fmt::Debug;
use std::ops::Range;

pub use cut::{Adjustment, Candidate, Cut, TokenMask};
pub use kv_type::KvType;
pub use page::{PAGE, Page};
pub use sequence::Sequence;
pub use traffic::Traffic;
pub use work::{Choice, Limits, Work};

use crate::Result;

/// A model prepared for a device.
pub trait Backend: Send + Sync + Debug {
    /// Name of the device, as in `--device`.
    fn name(&self) -> &str;

    /// What computes: instruction set, number of threads.
    fn description(&self) -> String;

    /// Bytes of the prepared weights.
    fn weight_bytes(&self) -> usize;

    /// How keys and values are stored where nothing else is asked for.
    fn kv_type(&self) -> KvType;

    /// Bytes of keys and values of a page.
    fn page_bytes(&self, kv_type: KvType) -> usize;

    /// Starts a session with room for `limits`; all its memory is allocated here.
    ///
    /// Errors: [`crate::Error::OutOfMemory`].
    fn open(&self, limits: Limits, kv_type: KvType) -> Result<Box<dyn Session>>;

    /// Starts a session for one sequence of at most `capacity` tokens.
    fn start(&self, capacity: usize) -> Result<Sequence> {
        let limits = Limits::sequence(capacity);
        Ok(Sequence::new(self.open(limits, self.kv_type())?, limits))
    }
}

/// A KV cache, and the buffers to run batches of tokens of several sequences with it.
///
/// A token's outputs are the same bits whatever shares its batch, and whether its prompt came in one piece or several.
pub trait Session: Send + Debug {
    /// Runs a batch: keys and values of its tokens are written to their pages.
    ///
    /// Errors: [`crate::Error::TokenOutOfRange`]; those of the device. A batch that failed may be run again: what its
    /// tokens wrote counts only when their position is in front of the next batch's.
    fn execute(&mut self, batch: &[Work<'_>]) -> Result<()>;

    /// What the last norm gives for these outputs of the last batch, `[outputs, hidden_size]`. Outputs are counted
    /// through the batch, those of the first sequence first.
    fn hidden(&mut self, outputs: Range<usize>) -> &[f32];

    /// The logits of these outputs of the last batch, `[outputs, vocab_size]`.
    fn logits(&mut self, outputs: Range<usize>) -> Result<&[f32]>;

    /// Finds what may follow some outputs of the last batch; [`Self::candidates`] has the answers.
    fn choose(&mut self, choices: &[Choice<'_>]) -> Result<()>;

    /// The answer to one of the last choices: at least all tokens that its cut keeps, in the order of their ids, with
    /// the same logits that [`Self::logits`] gives.
    ///
    /// Errors: [`crate::Error::NotFinite`] when the model gives no numbers.
    fn candidates(&self, choice: usize) -> Result<&[Candidate]>;

    /// Copies keys and values of a page.
    fn copy_page(&mut self, from: Page, to: Page);

    /// Takes the positions `range` out of a sequence of `len` tokens: the keys and values behind it move down to it, the
    /// keys turned back from their old positions and on to the new ones. The pages from that of `range.start` on are the
    /// sequence's alone. What was computed with the forgotten tokens in view stays as it was: what follows differs from
    /// a fresh reading of what is left.
    ///
    /// Errors: [`crate::Error::Unsupported`] where the device cannot, and then nothing has changed.
    fn forget(&mut self, pages: &[Page], range: Range<usize>, len: usize) -> Result<()> {
        let _ = (pages, range, len);
        Err(crate::Error::Unsupported { what: "forget a part of a sequence" })
    }

    /// What was read from memory since the session started.
    fn traffic(&self) -> Traffic;
}
