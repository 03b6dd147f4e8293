//! A model made ready to be measured.

use std::path::Path;
use std::sync::Arc;

use bitnet_core::{Device, ThreadPool};
use bitnet_inference::backend::cpu::CpuOptions;
use bitnet_inference::backend::{Backend, Limits, Sequence, Session, backends};
use bitnet_inference::model::adapter::Adapter;
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
    /// Loads the model of a checkpoint, with an adapter beside it, for a device, which does not fall back to another, or
    /// for the threads of `pool`.
    ///
    /// Errors: those of [`Model::load`], of [`Adapter::open`], of [`Model::set_adapter`] and of the backend.
    pub fn new(
        device: Device,
        checkpoint: Checkpoint,
        adapter: Option<&Path>,
        pool: Arc<ThreadPool>,
        options: &CpuOptions,
    ) -> Result<Self> {
        let mut model = Model::load(&checkpoint, &pool)?;
        if let Some(path) = adapter {
            model.set_adapter(Adapter::open(path)?)?;
        }
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
