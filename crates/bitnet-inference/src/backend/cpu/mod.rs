//! The CPU: threads, vector kernels, and the forward pass written on them.

mod attention;
mod forward;
mod kv_cache;
mod scratch;

use std::sync::Arc;

use bitnet_core::{FloatKernels, Isa, ThreadPool};
use bitnet_quant::TernaryKernel;

use self::kv_cache::KvCache;
use self::scratch::Scratch;
use super::{Backend, Sequence};
use crate::model::Model;
use crate::rope::RopeTable;
use crate::{Error, Result};

/// Tokens per step of the prefill: enough to use each weight many times while it is in the cache.
const CHUNK: usize = 128;

/// Runs a model on the threads of a pool with the kernels of one instruction set.
#[derive(Debug, Clone)]
pub struct CpuBackend {
    model: Arc<Model>,
    compute: Compute,
}

/// What a computation needs: threads and kernels.
#[derive(Debug, Clone)]
struct Compute {
    pool: Arc<ThreadPool>,
    floats: FloatKernels,
    ternary: TernaryKernel,
}

impl CpuBackend {
    /// Prepares `model`. Nothing is copied: packed weights are multiplied where they are mapped.
    pub fn new(model: Arc<Model>, pool: Arc<ThreadPool>, isa: Isa) -> Result<Self> {
        let compute = Compute { pool, floats: FloatKernels::new(isa)?, ternary: TernaryKernel::new(isa)? };
        Ok(Self { model, compute })
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn description(&self) -> String {
        let threads = self.compute.pool.threads();
        format!("{}, {threads} thread{}", self.compute.ternary.isa(), if threads == 1 { "" } else { "s" })
    }

    fn start(&self, capacity: usize) -> Result<Box<dyn Sequence>> {
        KvCache::check_memory(&self.model.config, capacity)?;
        Ok(Box::new(CpuSequence::new(Arc::clone(&self.model), self.compute.clone(), capacity)))
    }
}

/// A sequence on the CPU: its KV cache and the buffers of a step, allocated once.
#[derive(Debug)]
struct CpuSequence {
    model: Arc<Model>,
    compute: Compute,
    rope: RopeTable,
    cache: KvCache,
    scratch: Scratch,
    capacity: usize,
}

impl CpuSequence {
    fn new(model: Arc<Model>, compute: Compute, capacity: usize) -> Self {
        let config = &model.config;
        let rope = RopeTable::new(config.rope_theta, config.rope_scaling, config.head_dim, capacity);
        let cache = KvCache::new(config, capacity);
        let scratch = Scratch::new(config, CHUNK.min(capacity));
        Self { model, compute, rope, cache, scratch, capacity }
    }

    fn check(&self, ids: &[u32], logits: usize) -> Result<()> {
        assert!(ids.len() <= CHUNK && logits <= ids.len(), "at most a chunk of tokens, and their logits");
        let vocab_size = self.model.config.vocab_size;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::TokenOutOfRange { id, vocab_size });
        }
        let tokens = self.cache.len() + ids.len();
        if tokens > self.capacity {
            return Err(Error::ContextLength { prompt_tokens: tokens, context_length: self.capacity });
        }
        Ok(())
    }
}

impl Sequence for CpuSequence {
    fn len(&self) -> usize {
        self.cache.len()
    }

    fn chunk(&self) -> usize {
        CHUNK
    }

    fn feed(&mut self, ids: &[u32], logits: usize) -> Result<&[f32]> {
        self.check(ids, logits)?;
        self.forward(ids, &mut |_, _| {})?;
        self.head(ids.len(), logits)
    }
}

#[cfg(test)]
mod tests;
