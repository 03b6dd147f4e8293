//! Providers of computation. The engine knows these two traits and names no provider.

pub mod cpu;
mod cut;
mod kv_type;
mod traffic;

use std::fmt::Debug;

pub use cut::{Adjustment, Candidate, Cut, TokenMask};
pub use kv_type::KvType;
pub use traffic::Traffic;

use crate::Result;

/// A model prepared for a device.
pub trait Backend: Send + Sync + Debug {
    /// Name of the device, as in `--device`.
    fn name(&self) -> &'static str;

    /// What computes: instruction set, number of threads.
    fn description(&self) -> String;

    /// Starts a sequence of at most `capacity` tokens; all its memory is allocated here.
    fn start(&self, capacity: usize) -> Result<Box<dyn Sequence>>;
}

/// One sequence of tokens with its KV cache.
pub trait Sequence: Send + Debug {
    /// Tokens the sequence holds.
    fn len(&self) -> usize;

    /// Whether nothing was fed yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most tokens one call takes at full speed; longer inputs are fed in pieces.
    fn chunk(&self) -> usize;

    /// Appends at most [`Self::chunk`] tokens. What follows the last `outputs` of them can be asked for afterwards; of
    /// the others, what only their logits need is not computed.
    ///
    /// Errors: [`crate::Error::ContextLength`] beyond the capacity, [`crate::Error::TokenOutOfRange`].
    fn feed(&mut self, ids: &[u32], outputs: usize) -> Result<()>;

    /// What the last norm gives for the last `count` tokens of the last call of [`Self::feed`], `[count, hidden_size]`;
    /// `count` is at most the `outputs` of that call.
    fn hidden(&mut self, count: usize) -> &[f32];

    /// The logits of the last `count` tokens of the last call of [`Self::feed`], `[count, vocab_size]`; `count` is at
    /// most the `outputs` of that call.
    fn logits(&mut self, count: usize) -> Result<&[f32]>;

    /// The tokens that may follow the last one: at least all that `cut` keeps, in the order of their ids, with the same
    /// logits that [`Self::logits`] gives.
    ///
    /// Errors: [`crate::Error::NotFinite`] when the model gives no numbers.
    fn candidates(&mut self, cut: &Cut<'_>) -> Result<&[Candidate]>;

    /// What was read from memory since the sequence started.
    fn traffic(&self) -> Traffic;
}
