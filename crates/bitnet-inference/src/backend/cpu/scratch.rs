//! The buffers of one step, taken from the pool when a session starts and used again for every batch.

use bitnet_core::{HybridMemoryPool, PoolVec};
use bitnet_quant::{QuantizedActivations, SparseScratch};

use super::choices::Choices;
use crate::Result;
use crate::config::ModelConfig;

/// Activations of a batch, each buffer `[tokens, width]`.
#[derive(Debug)]
pub(super) struct Scratch {
    /// The residual stream.
    pub(super) hidden: PoolVec<f32>,
    /// A normalised input.
    pub(super) normed: PoolVec<f32>,
    /// Queries, and then the output of the attention.
    pub(super) q: PoolVec<f32>,
    pub(super) k: PoolVec<f32>,
    pub(super) v: PoolVec<f32>,
    pub(super) attended: PoolVec<f32>,
    pub(super) gate: PoolVec<f32>,
    pub(super) up: PoolVec<f32>,
    /// What a half of a block adds to the residual stream.
    pub(super) added: PoolVec<f32>,
    pub(super) quantized: QuantizedActivations,
    /// What the last norm gives for the outputs; grown when there are more than before, as are those below.
    pub(super) outputs: Vec<f32>,
    /// Outputs whose logits are computed together.
    pub(super) picked: Vec<f32>,
    pub(super) logits: Vec<f32>,
    /// Neurons of the feed-forward network that are not 0.
    pub(super) chosen: Vec<u32>,
    pub(super) sparse: SparseScratch,
    pub(super) choices: Choices,
}

impl Scratch {
    /// Errors: those of the pool.
    pub(super) fn new(config: &ModelConfig, tokens: usize, threads: usize) -> Result<Self> {
        let q_width = config.heads * config.head_dim;
        let kv_width = config.kv_heads * config.head_dim;
        let widest = config.hidden_size.max(q_width).max(config.intermediate_size);
        // Zeros, though every batch writes what it reads: they take no memory for the tokens that no batch has.
        let buffer = |width: usize| HybridMemoryPool::global().zeroed(tokens * width);
        Ok(Self {
            hidden: buffer(config.hidden_size)?,
            normed: buffer(widest)?,
            q: buffer(q_width)?,
            k: buffer(kv_width)?,
            v: buffer(kv_width)?,
            attended: buffer(q_width)?,
            gate: buffer(config.intermediate_size)?,
            up: buffer(config.intermediate_size)?,
            added: buffer(config.hidden_size)?,
            quantized: QuantizedActivations::with_capacity(tokens, widest),
            outputs: Vec::new(),
            picked: Vec::new(),
            logits: Vec::new(),
            chosen: Vec::with_capacity(config.intermediate_size),
            sparse: SparseScratch::new(config.hidden_size, threads),
            choices: Choices::default(),
        })
    }
}
