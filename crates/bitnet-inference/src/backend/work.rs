//! What a session is asked to do.

use super::{Cut, Page};

/// Tokens to append to one sequence: an entry of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// The tokens, at least one.
    pub ids: &'a [u32],
    /// Position of the first of them: how many tokens the sequence holds.
    pub position: usize,
    /// Pages of the sequence in the order of its positions, those of `ids` among them.
    pub pages: &'a [Page],
    /// The last tokens among `ids` whose outputs are asked for. Of the others, what only their logits need is not
    /// computed.
    pub outputs: usize,
}

/// A question for the tokens that may follow an output.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// The output, counted through the batch.
    pub output: usize,
    /// What is looked for.
    pub cut: Cut<'a>,
}

/// What a session has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pages of the KV cache.
    pub pages: usize,
    /// Positions of a sequence.
    pub positions: usize,
    /// Tokens of a batch.
    pub tokens: usize,
}

impl Limits {
    /// Tokens of a batch of prompts: enough for the unpacking of a weight to be small against its use.
    const CHUNK: usize = 512;

    /// Room for one sequence of `capacity` tokens.
    pub fn sequence(capacity: usize) -> Self {
        Self { pages: Page::count(capacity), positions: capacity, tokens: capacity.clamp(1, Self::CHUNK) }
    }
}
