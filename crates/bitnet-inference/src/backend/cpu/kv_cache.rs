//! Keys and values of the tokens so far.

use std::ops::Range;

use crate::config::ModelConfig;
use crate::{Error, Result};

/// Float32 keys and values, per layer and KV head one `[capacity, head_dim]` matrix.
#[derive(Debug)]
pub(super) struct KvCache {
    keys: Vec<f32>,
    values: Vec<f32>,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    len: usize,
}

impl KvCache {
    /// Whether keys and values of `capacity` tokens can be allocated.
    ///
    /// Errors: [`Error::OutOfMemory`]. Without this a context that a config only claims would abort the process.
    pub(super) fn check_memory(config: &ModelConfig, capacity: usize) -> Result<()> {
        let factors = [2, config.layers, config.kv_heads, config.head_dim];
        let elements = factors.iter().try_fold(capacity, |product, &factor| product.checked_mul(factor));
        let fits = elements.is_some_and(|elements| Vec::<f32>::new().try_reserve_exact(elements).is_ok());
        if fits { Ok(()) } else { Err(Error::OutOfMemory { tokens: capacity }) }
    }

    pub(super) fn new(config: &ModelConfig, capacity: usize) -> Self {
        let elements = config.layers * config.kv_heads * capacity * config.head_dim;
        // Zeroed pages take no memory before they are written, so a long context costs what is used of it.
        Self {
            keys: vec![0.0; elements],
            values: vec![0.0; elements],
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            capacity,
            len: 0,
        }
    }

    /// Tokens held in every layer.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Counts tokens whose keys and values all layers have written.
    pub(super) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }

    /// Writes the keys and values (`[kv_heads * head_dim]` each) of one token of one layer.
    pub(super) fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        for head in 0..self.kv_heads {
            let to = self.range(layer, head, position..position + 1);
            let from = head * self.head_dim..(head + 1) * self.head_dim;
            self.keys[to.clone()].copy_from_slice(&keys[from.clone()]);
            self.values[to].copy_from_slice(&values[from]);
        }
    }

    /// Keys of the first `positions` tokens, `[positions, head_dim]`.
    pub(super) fn keys(&self, layer: usize, head: usize, positions: usize) -> &[f32] {
        &self.keys[self.range(layer, head, 0..positions)]
    }

    /// Values of the first `positions` tokens, `[positions, head_dim]`.
    pub(super) fn values(&self, layer: usize, head: usize, positions: usize) -> &[f32] {
        &self.values[self.range(layer, head, 0..positions)]
    }

    fn range(&self, layer: usize, head: usize, positions: Range<usize>) -> Range<usize> {
        assert!(positions.end <= self.capacity, "position {} of {}", positions.end, self.capacity);
        let start = (layer * self.kv_heads + head) * self.capacity;
        (start + positions.start) * self.head_dim..(start + positions.end) * self.head_dim
    }
}
