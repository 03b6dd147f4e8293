//! A model made ready to be measured.

use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_inference::backend::cpu::{CpuBackend, CpuOptions};
use bitnet_inference::backend::{Backend, Limits, Sequence, Session};
use bitnet_inference::model::{Block, Linear};
use bitnet_inference::{Checkpoint, Model, Result};

/// A model on a backend, and what is to be known of it.
#[derive(Debug)]
pub struct Subject {
    backend: Box<dyn Backend>,
    /// The threads it runs on.
    pub pool: Arc<ThreadPool>,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Positions the model was built for.
    pub context_length: usize,
    /// Ternary multiply-accumulates per token of a prompt: the ternary weights of all blocks.
    pub macs_per_token: usize,
}

impl Subject {
    /// Loads the model of a checkpoint for the threads of `pool`.
    ///
    /// Errors: those of [`Model::load`] and [`CpuBackend::new`].
    pub fn new(checkpoint: Checkpoint, pool: Arc<ThreadPool>, options: &CpuOptions) -> Result<Self> {
        let model = Model::load(&checkpoint, &pool)?;
        // The model keeps the tensors it shares; all else is given back.
        drop(checkpoint);
        let is_ternary = |linear: &&Linear| matches!(linear, Linear::Ternary(_));
        let linears = model.blocks.iter().flat_map(Block::linears);
        Ok(Self {
            pool: Arc::clone(&pool),
            vocab_size: model.config.vocab_size,
            context_length: model.config.context_length,
            macs_per_token: linears.filter(is_ternary).map(Linear::weights).sum(),
            backend: Box::new(CpuBackend::new(model, pool, options)?),
        })
    }

    /// Starts a sequence of at most `capacity` tokens.
    pub fn start(&self, capacity: usize) -> Result<Sequence> {
        self.backend.start(capacity)
    }

    /// Starts a session.
    pub fn open(&self, limits: Limits) -> Result<Box<dyn Session>> {
        self.backend.open(limits, self.backend.kv_type())
    }
}
