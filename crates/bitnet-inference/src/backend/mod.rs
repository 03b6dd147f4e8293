//! Providers of computation. The engine knows these two traits and names no provider.

pub mod conformance;
pub mod cpu;
mod cut;
#[cfg(test)]
pub(crate) mod delegate;
mod fallback;
mod guard;
pub mod hybrid;
mod keep;
mod kv_type;
pub mod metal;
mod on_demand;
mod page;
mod selection;
mod sequence;
mod traffic;
mod work;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

pub use cut::{Adjustment, Candidate, Cut, TokenMask};
pub use fallback::FallbackBackend;
pub(crate) use guard::guard;
pub use kv_type::KvType;
pub use on_demand::OnDemandBackend;
pub use page::{PAGE, Page};
pub use selection::backends;
pub use sequence::Sequence;
pub use traffic::Traffic;
pub use work::{Choice, Limits, Work};

use crate::monitor::LayerTimes;
use crate::{Error, Result};

/// A model prepared for a device.
pub trait Backend: Send + Sync + Debug {
    /// Name of the device, as in `--device`.
    fn name(&self) -> &str;

    /// What computes: instruction set, number of threads.
    fn description(&self) -> String;

    /// Bytes of memory that the prepared weights take.
    fn weight_bytes(&self) -> usize;

    /// How keys and values are stored where nothing else is asked for.
    fn kv_type(&self) -> KvType;

    /// Bytes of keys and values of a page.
    fn page_bytes(&self, kv_type: KvType) -> usize;

    /// Starts a session with room for `limits`; all its memory is allocated here.
    ///
    /// Errors: [`Error::OutOfMemory`].
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
    /// Errors: [`Error::TokenOutOfRange`]; those of the device. A batch that failed may be run again: what its
    /// tokens wrote counts only when their position is in front of the next batch's.
    fn execute(&mut self, batch: &[Work<'_>]) -> Result<()>;

    /// What the last norm gives for these outputs of the last batch, `[outputs, hidden_size]`. Outputs are counted
    /// through the batch, those of the first sequence first.
    ///
    /// Errors: [`Error::Unsupported`] where a backend gives logits alone.
    fn hidden(&mut self, outputs: Range<usize>) -> Result<&[f32]>;

    /// The logits of these outputs of the last batch, `[outputs, vocab_size]`.
    fn logits(&mut self, outputs: Range<usize>) -> Result<&[f32]>;

    /// Finds what may follow some outputs of the last batch; [`Self::candidates`] has the answers.
    fn choose(&mut self, choices: &[Choice<'_>]) -> Result<()>;

    /// The answer to one of the last choices: at least all tokens that its cut keeps, in the order of their ids, with
    /// the same logits that [`Self::logits`] gives. Those whose adjusted logit is minus infinity may be missing.
    ///
    /// Errors: [`Error::NotFinite`] when the model gives no numbers.
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

    /// Adds the times of layers, by their numbers in the whole model, to `times` from now on. A backend that does not
    /// measure them leaves it.
    fn set_layer_times(&mut self, times: Arc<LayerTimes>) {
        drop(times);
    }

    /// Appends the keys and values of a page to `bytes`: [`Backend::page_bytes`] of them, layer after layer. A layer
    /// has the keys of all its heads, then the values: elements first, and behind those of [`KvType::I8`] the scales,
    /// float32 `[heads, PAGE]`, all in the byte order of the machine. Keys are `[heads, PAGE / 16, head_dim, 16]`, with
    /// the positions last; values are `[heads, PAGE, head_dim]`.
    ///
    /// Errors: [`Error::Unsupported`].
    fn read_page(&self, page: Page, bytes: &mut Vec<u8>) -> Result<()> {
        let _ = (page, bytes);
        Err(Error::Unsupported { what: "give its keys and values" })
    }

    /// Takes the keys and values of a page, as [`Self::read_page`] of another session gives them.
    ///
    /// Errors: [`Error::Unsupported`].
    fn write_page(&mut self, page: Page, bytes: &[u8]) -> Result<()> {
        let _ = (page, bytes);
        Err(Error::Unsupported { what: "take keys and values" })
    }

    /// [`Self::execute`] in a part of a model that is not the first, with the residual stream that the part before it
    /// gives for the same batch.
    ///
    /// Errors: [`Error::Unsupported`]; those of [`Self::execute`].
    fn execute_from(&mut self, batch: &[Work<'_>], stream: &[f32]) -> Result<()> {
        let _ = (batch, stream);
        Err(Error::Unsupported { what: "run later layers of a model alone" })
    }

    /// What a part of a model that is not the last gives for the last batch: the residual stream behind its layers,
    /// `[tokens, hidden_size]`.
    ///
    /// Errors: [`Error::Unsupported`].
    fn stream(&self) -> Result<&[f32]> {
        Err(Error::Unsupported { what: "run earlier layers of a model alone" })
    }
}
