//! Providers of computation. The engine knows these two traits and names no provider.

pub mod cpu;

use std::fmt::Debug;

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

    /// Appends at most [`Self::chunk`] tokens and returns the logits of the last `logits` of them,
    /// `[logits, vocab_size]`.
    ///
    /// Errors: [`crate::Error::ContextLength`] beyond the capacity, [`crate::Error::TokenOutOfRange`].
    fn feed(&mut self, ids: &[u32], logits: usize) -> Result<&[f32]>;
}
