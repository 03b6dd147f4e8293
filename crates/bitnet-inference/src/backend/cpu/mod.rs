//! The CPU: threads, vector kernels, and the forward pass written on them.

mod attention;
mod choices;
mod compute;
mod forget;
mod forward;
mod head;
mod kv_cache;
mod mlp;
mod prepared;
mod rows;
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
use super::{Backend, Candidate, Choice, KvType, Limits, Page, Sequence, Session, Traffic, Work};
use crate::model::ModelPart;
use crate::monitor::LayerTimes;
use crate::rope::RopeTable;
use crate::{Error, Result};

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
    /// Prepares a model, or a part of one: every ternary matrix is repacked for the kernels, and given back.
    pub fn new(model: impl Into<ModelPart>, pool: Arc<ThreadPool>, options: &CpuOptions) -> Result<Self> {
        let model = model.into();
        let ternary = options.kernel()?;
        let floats = FloatKernels::new(ternary.isa())?;
        let weights = model.ternary_parameters();
        let packing = ternary.choose_packing(&pool, options.packing, weights)?;
        let model = Arc::new(Prepared::new(model, &pool, &floats, &ternary, packing)?);
        Ok(Self { model, compute: Compute { pool, floats, ternary }, packing, kv_cache: options.kv_cache })
    }

    /// Starts a sequence that can be looked into.
    ///
    /// Errors: as [`Backend::open`].
    pub(crate) fn sequence(&self, capacity: usize) -> Result<Sequence<CpuSession>> {
        let limits = Limits::sequence(capacity);
        Ok(Sequence::new(Box::new(self.session(limits, self.kv_cache)?), limits))
    }

    fn session(&self, limits: Limits, kv_type: KvType) -> Result<CpuSession> {
        let session = CpuSession::new(Arc::clone(&self.model), self.compute.clone(), limits, kv_type);
        // All that a session takes, it takes from the pool.
        session.map_err(|error| match error {
            Error::Core(_) => Error::OutOfMemory { tokens: limits.positions },
            error => error,
        })
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

    fn weight_bytes(&self) -> usize {
        self.model.weight_bytes()
    }

    fn kv_type(&self) -> KvType {
        self.kv_cache
    }

    fn page_bytes(&self, kv_type: KvType) -> usize {
        kv_type.page_bytes(&self.model.config)
    }

    fn open(&self, limits: Limits, kv_type: KvType) -> Result<Box<dyn Session>> {
        Ok(Box::new(self.session(limits, kv_type)?))
    }
}

/// A session on the CPU: its KV cache and the buffers of a step, allocated once.
#[derive(Debug)]
pub(crate) struct CpuSession {
    model: Arc<Prepared>,
    compute: Compute,
    rope: RopeTable,
    /// Of the layers that see neighbouring positions alone, where there are such.
    local_rope: Option<RopeTable>,
    cache: KvCache,
    scratch: Scratch,
    limits: Limits,
    /// Tokens of the last batch.
    tokens: usize,
    traffic: Traffic,
    layer_times: Option<Arc<LayerTimes>>,
}

impl CpuSession {
    fn new(model: Arc<Prepared>, compute: Compute, limits: Limits, kv_type: KvType) -> Result<Self> {
        let config = &model.config;
        // First, for who asks for more than there is.
        let cache = KvCache::new(config, kv_type, limits.pages)?;
        let table = |theta, scaling: &_| RopeTable::new(theta, scaling, config.head_dim, limits.positions);
        let rope = table(config.rope_theta, &config.rope_scaling);
        let local_rope = config.local.as_ref().map(|local| table(local.rope_theta, &local.rope_scaling));
        let scratch = Scratch::new(config, limits.tokens, compute.pool.threads())?;
        Ok(Self {
            model,
            compute,
            rope,
            local_rope,
            cache,
            scratch,
            limits,
            tokens: 0,
            traffic: Traffic::default(),
            layer_times: None,
        })
    }

    /// [`Session::execute`], where `observe(layer, observed)` sees every block at work.
    pub(crate) fn execute_observed(
        &mut self,
        batch: &[Work<'_>],
        observe: &mut dyn FnMut(usize, Observed<'_>),
    ) -> Result<()> {
        self.check_batch(batch)?;
        self.embed(batch)?;
        self.forward(batch, observe)
    }

    fn check_batch(&self, batch: &[Work<'_>]) -> Result<()> {
        let tokens: usize = batch.iter().map(|work| work.ids.len()).sum();
        assert!(tokens <= self.limits.tokens, "a batch of at most {} tokens", self.limits.tokens);
        batch.iter().try_for_each(|work| self.check(work))
    }

    fn check(&self, work: &Work<'_>) -> Result<()> {
        let end = work.position + work.ids.len();
        assert!(end <= self.limits.positions, "position {end} of {}", self.limits.positions);
        let pages = &work.pages[..Page::count(end)];
        assert!(pages.iter().all(|page| (page.0 as usize) < self.cache.pages()), "pages of the session");
        let vocab_size = self.model.config.vocab_size;
        match work.ids.iter().find(|&&id| id as usize >= vocab_size) {
            Some(&id) => Err(Error::TokenOutOfRange { id, vocab_size }),
            None => Ok(()),
        }
    }
}

impl Sequence<CpuSession> {
    /// [`Sequence::feed`] with all outputs, where `observe(layer, observed)` sees every block at work.
    pub(crate) fn feed_observed(
        &mut self,
        ids: &[u32],
        observe: &mut dyn FnMut(usize, Observed<'_>),
    ) -> Result<()> {
        self.append(ids, ids.len(), |session, work| session.execute_observed(&[work], observe))
    }
}

impl Session for CpuSession {
    fn execute(&mut self, batch: &[Work<'_>]) -> Result<()> {
        self.execute_observed(batch, &mut |_, _| {})
    }

    fn hidden(&mut self, outputs: Range<usize>) -> Result<&[f32]> {
        self.model.ending()?;
        let width = self.model.config.hidden_size;
        Ok(&self.scratch.outputs[outputs.start * width..outputs.end * width])
    }

    fn logits(&mut self, outputs: Range<usize>) -> Result<&[f32]> {
        self.all_logits(outputs)
    }

    fn choose(&mut self, choices: &[Choice<'_>]) -> Result<()> {
        self.choose_all(choices)
    }

    fn candidates(&self, choice: usize) -> Result<&[Candidate]> {
        self.found(choice)
    }

    fn copy_page(&mut self, from: Page, to: Page) {
        self.cache.copy(from, to);
    }

    fn forget(&mut self, pages: &[Page], range: Range<usize>, len: usize) -> Result<()> {
        self.move_down(pages, range, len);
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn set_layer_times(&mut self, times: Arc<LayerTimes>) {
        self.layer_times = Some(times);
    }

    fn read_page(&self, page: Page, bytes: &mut Vec<u8>) -> Result<()> {
        self.cache.read_page(page, bytes);
        Ok(())
    }

    fn write_page(&mut self, page: Page, bytes: &[u8]) -> Result<()> {
        self.cache.write_page(page, bytes);
        Ok(())
    }

    fn execute_from(&mut self, batch: &[Work<'_>], stream: &[f32]) -> Result<()> {
        self.check_batch(batch)?;
        self.scratch.hidden[..stream.len()].copy_from_slice(stream);
        self.forward(batch, &mut |_, _| {})
    }

    fn stream(&self) -> Result<&[f32]> {
        match self.model.ending {
            None => Ok(&self.scratch.hidden[..self.tokens * self.model.config.hidden_size]),
            Some(_) => Err(Error::Unsupported { what: "hand on the residual stream: it has the last layer" }),
        }
    }
}

#[cfg(test)]
mod tests;
