//! The CPU: threads, vector kernels, and the forward pass written on them.

mod attention;
mod compute;
mod forward;
mod head;
mod kv_cache;
mod mlp;
mod prepared;
mod scaled;
mod scratch;

use std::ops::Range;
use std::sync::Arc;

use bitnet_core::{FloatKernels, Isa, ThreadPool};
use bitnet_quant::{Packing, TernaryKernel};

use self::compute::Compute;
pub(crate) use self::forward::Observed;
use self::kv_cache::KvCache;
use self::prepared::Prepared;
use self::scratch::Scratch;
use super::{Backend, Candidate, Cut, KvType, Sequence, Traffic};
use crate::model::Model;
use crate::rope::RopeTable;
use crate::{Error, Result};

/// Tokens per step of the prefill: enough for the unpacking of a weight to be small against its use.
const CHUNK: usize = 512;

/// How to run on the CPU. The defaults lose nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuOptions {
    /// Instruction set; `None` takes `BITNET_ISA`, else the best there is.
    pub isa: Option<Isa>,
    /// How ternary weights are packed; `None` takes `BITNET_PACKING`, else what is faster on this machine.
    pub packing: Option<Packing>,
    /// How keys and values are stored.
    pub kv_cache: KvType,
}

impl CpuOptions {
    /// What [`CpuBackend::new`] checks first, for a caller who wants to know before a model is loaded.
    ///
    /// Errors: an instruction set or a packing that does not exist, or not here.
    pub fn check(self) -> Result<()> {
        self.kernel()?.asked_packing(self.packing)?;
        Ok(())
    }

    fn kernel(self) -> Result<TernaryKernel> {
        Ok(TernaryKernel::new(self.isa.map_or_else(Isa::selected, Isa::require)?)?)
    }
}

/// Runs a model on the threads of a pool with the kernels of one instruction set.
#[derive(Debug, Clone)]
pub struct CpuBackend {
    model: Arc<Prepared>,
    compute: Compute,
    packing: Packing,
    kv_cache: KvType,
}

impl CpuBackend {
    /// Prepares `model`: every ternary matrix is repacked for the kernels, and given back.
    pub fn new(model: Model, pool: Arc<ThreadPool>, options: &CpuOptions) -> Result<Self> {
        let ternary = options.kernel()?;
        let floats = FloatKernels::new(ternary.isa())?;
        let weights = model.ternary_parameters();
        let packing = ternary.choose_packing(&pool, options.packing, weights)?;
        let model = Arc::new(Prepared::new(model, &pool, &floats, packing)?);
        Ok(Self { model, compute: Compute { pool, floats, ternary }, packing, kv_cache: options.kv_cache })
    }

    /// Starts a sequence that can be looked into.
    pub(crate) fn sequence(&self, capacity: usize) -> CpuSequence {
        CpuSequence::new(Arc::clone(&self.model), self.compute.clone(), self.kv_cache, capacity)
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn description(&self) -> String {
        let threads = self.compute.pool.threads();
        let (isa, packing) = (self.compute.ternary.isa(), self.packing);
        format!("{isa}, {packing}, {threads} thread{}", if threads == 1 { "" } else { "s" })
    }

    fn start(&self, capacity: usize) -> Result<Box<dyn Sequence>> {
        KvCache::check_memory(&self.model.config, self.kv_cache, capacity)?;
        Ok(Box::new(self.sequence(capacity)))
    }
}

/// A sequence on the CPU: its KV cache and the buffers of a step, allocated once.
#[derive(Debug)]
pub(crate) struct CpuSequence {
    model: Arc<Prepared>,
    compute: Compute,
    rope: RopeTable,
    /// Of the layers that see neighbouring positions alone, where there are such.
    local_rope: Option<RopeTable>,
    cache: KvCache,
    scratch: Scratch,
    capacity: usize,
    /// Tokens of the last call of `feed` whose hidden states the scratch buffers hold.
    outputs: Range<usize>,
    traffic: Traffic,
}

impl CpuSequence {
    fn new(model: Arc<Prepared>, compute: Compute, kv_cache: KvType, capacity: usize) -> Self {
        let config = &model.config;
        let rope = RopeTable::new(config.rope_theta, &config.rope_scaling, config.head_dim, capacity);
        let local_rope = config
            .local
            .as_ref()
            .map(|local| RopeTable::new(local.rope_theta, &local.rope_scaling, config.head_dim, capacity));
        let cache = KvCache::new(config, kv_cache, capacity);
        let scratch = Scratch::new(config, CHUNK.min(capacity), compute.pool.threads());
        Self {
            model,
            compute,
            rope,
            local_rope,
            cache,
            scratch,
            capacity,
            outputs: 0..0,
            traffic: Traffic::default(),
        }
    }

    /// [`Sequence::feed`] with all outputs, where `observe(layer, observed)` sees every block at work.
    pub(crate) fn feed_observed(
        &mut self,
        ids: &[u32],
        observe: &mut dyn FnMut(usize, Observed<'_>),
    ) -> Result<()> {
        self.check(ids)?;
        self.forward(ids, ids.len(), observe)
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

    fn feed(&mut self, ids: &[u32], outputs: usize) -> Result<()> {
        self.check(ids)?;
        self.forward(ids, outputs, &mut |_, _| {})
    }

    fn hidden(&mut self, count: usize) -> &[f32] {
        self.normalise_last(count);
        &self.scratch.normed[..count * self.model.config.hidden_size]
    }

    fn logits(&mut self, count: usize) -> Result<&[f32]> {
        self.all_logits(count)?;
        Ok(&self.scratch.logits[..count * self.model.config.vocab_size])
    }

    fn candidates(&mut self, cut: &Cut<'_>) -> Result<&[Candidate]> {
        self.choose(cut)
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}

#[cfg(test)]
mod tests;
