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
use super::{Backend, Candidate, Cut, Sequence, Traffic};
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
    /// Tokens of the last call of `feed`, whose hidden states the scratch buffers hold.
    fed: usize,
    traffic: Traffic,
}

impl CpuSequence {
    fn new(model: Arc<Model>, compute: Compute, capacity: usize) -> Self {
        let config = &model.config;
        let rope = RopeTable::new(config.rope_theta, config.rope_scaling, config.head_dim, capacity);
        let cache = KvCache::new(config, capacity);
        let scratch = Scratch::new(config, CHUNK.min(capacity));
        Self { model, compute, rope, cache, scratch, capacity, fed: 0, traffic: Traffic::default() }
    }

    fn check(&self, ids: &[u32]) -> Result<()> {
        assert!(ids.len() <= CHUNK, "at most a chunk of tokens");
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

    fn feed(&mut self, ids: &[u32]) -> Result<()> {
        self.check(ids)?;
        self.forward(ids, &mut |_, _| {})?;
        self.fed = ids.len();
        Ok(())
    }

    fn logits(&mut self, count: usize) -> Result<&[f32]> {
        self.head(count)?;
        Ok(&self.scratch.logits[..count * self.model.config.vocab_size])
    }

    fn candidates(&mut self, _cut: &Cut<'_>) -> Result<&[Candidate]> {
        self.head(1)?;
        let Scratch { logits, candidates, .. } = &mut self.scratch;
        let logits = &logits[..self.model.config.vocab_size];
        if !logits.iter().fold(true, |finite, logit| finite & logit.is_finite()) {
            return Err(Error::NotFinite { what: "a logit".to_owned() });
        }
        candidates.clear();
        candidates.extend(logits.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit }));
        Ok(candidates)
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}

#[cfg(test)]
mod tests;
