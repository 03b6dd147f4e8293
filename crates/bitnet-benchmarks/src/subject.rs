//! A model made ready to be measured.

use std::sync::Arc;

use bitnet_core::{Device, ThreadPool};
use bitnet_inference::backend::cpu::CpuOptions;
use bitnet_inference::backend::{Backend, Limits, Sequence, Session, backends};
use bitnet_inference::model::{Block, Linear};
use bitnet_inference::{Checkpoint, Model, Result};

/// A model on a backend, and what is to be known of it.
#[derive(Debug)]
pub struct Subject {
    backend: Arc<dyn Backend>,
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
    /// Errors: those of [`Self::on`].
    pub fn new(checkpoint: Checkpoint, pool: Arc<ThreadPool>, options: &CpuOptions) -> Result<Self> {
        Self::on(Device::Cpu, checkpoint, pool, options)
    }

    /// Loads the model of a checkpoint for a device, which does not fall back to another.
    ///
    /// Errors: those of [`Model::load`] and of the backend.
    pub fn on(
        device: Device,
        checkpoint: Checkpoint,
        pool: Arc<ThreadPool>,
        options: &CpuOptions,
    ) -> Result<Self> {
        let model = Model::load(&checkpoint, &pool)?;
        // The model keeps the tensors it shares; all else is given back.
        drop(checkpoint);
        let is_ternary = |linear: &&Linear| matches!(linear, Linear::Ternary(_));
        let linears = model.blocks.iter().flat_map(Block::linears);
        let macs_per_token = linears.filter(is_ternary).map(Linear::weights).sum();
        let (vocab_size, context_length) = (model.config.vocab_size, model.config.context_length);
        let backend = backends(device, *options, model, &pool)?.swap_remove(0);
        Ok(Self { backend, pool, vocab_size, context_length, macs_per_token })
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
