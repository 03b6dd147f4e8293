//! A session on a device: its cache, and the buffers of a step, allocated once.

use std::ops::Range;
use std::sync::Arc;

use bitnet_metal::kernels::{AttentionShape, Cache, Partials, Quantized, RopeShape};
use bitnet_metal::{Gpu, Memory, Step};

use super::batch::{Batch, Rows};
use super::cache::KvCache;
use super::error::failed;
use super::forward::Lap;
use super::outputs::Outputs;
use super::prepared::{KvKernels, Prepared};
use crate::backend::{Candidate, Choice, KvType, Limits, PAGE, Page, Session, Traffic, Work};
use crate::config::{LocalAttention, ModelConfig};
use crate::monitor::LayerTimes;
use crate::rope::RopeTable;
use crate::{Error, Result};

/// Up to how many rows every page of each has threadgroups of its own: more keep the device busy without
/// that.
const DECODE_ROWS: usize = 32;

/// Bytes of the partial results of attention, at most, but for those of one row.
const PARTIAL_BYTES: usize = 64 << 20;

/// A session on a device.
#[derive(Debug)]
pub(super) struct MetalSession<G: Gpu> {
    pub(super) gpu: Arc<G>,
    pub(super) model: Arc<Prepared<G>>,
    limits: Limits,
    kv_type: KvType,
    pub(super) cache: KvCache<G::Memory>,
    rope: G::Memory,
    /// Of the layers that see neighbouring positions alone, where there are such.
    local_rope: Option<G::Memory>,
    pub(super) batch: Batch<G::Memory>,
    pub(super) activations: Activations<G::Memory>,
    pub(super) outputs: Outputs<G::Memory>,
    pub(super) traffic: Traffic,
    layer_times: Option<Arc<LayerTimes>>,
}

/// Activations of a batch, each `[tokens, width]`.
#[derive(Debug)]
pub(super) struct Activations<M> {
    /// The residual stream.
    pub(super) hidden: M,
    /// Its rows whose outputs are asked for, in the last layer.
    pub(super) kept_hidden: M,
    /// Queries, keys and values side by side.
    pub(super) qkv: M,
    /// Those of the rows whose outputs are asked for.
    pub(super) kept_qkv: M,
    pub(super) attended: M,
    /// Gate and gated branch side by side.
    pub(super) gate_up: M,
    /// What a half of a block adds to the residual stream, where a norm is between.
    pub(super) added: Option<M>,
    pub(super) quantized: Quantized<M>,
    pub(super) partials: Partials<M>,
    /// Rows that there are partial results for.
    pub(super) decode_rows: usize,
}

impl<M: Memory> Activations<M> {
    fn new<G: Gpu<Memory = M>>(gpu: &G, model: &Prepared<G>, limits: Limits) -> Result<Self> {
        let config = &model.config;
        let ModelConfig { hidden_size, intermediate_size, heads, head_dim, .. } = *config;
        let buffer = |width: usize| gpu.allocate(limits.tokens * width * 4);
        let q_width = heads * head_dim;
        let qkv_width = rope_shape(config, 0).stride();
        let pages = Page::count(limits.positions).max(1);
        let row_bytes = Partials::<M>::row_floats(heads, head_dim, pages) * 4;
        let decode_rows = (PARTIAL_BYTES / row_bytes).min(DECODE_ROWS).min(limits.tokens).max(1);
        let has_post_norms = model
            .layers
            .iter()
            .any(|layer| layer.attention_post_norm.is_some() || layer.mlp_post_norm.is_some());
        Ok(Self {
            hidden: buffer(hidden_size)?,
            kept_hidden: buffer(hidden_size)?,
            qkv: buffer(qkv_width)?,
            kept_qkv: buffer(qkv_width)?,
            attended: buffer(q_width)?,
            gate_up: buffer(2 * intermediate_size)?,
            added: has_post_norms.then(|| buffer(hidden_size)).transpose()?,
            quantized: Quantized::new(gpu, limits.tokens, hidden_size.max(q_width).max(intermediate_size))?,
            partials: Partials::new(gpu, decode_rows, heads, head_dim, pages)?,
            decode_rows,
        })
    }
}

impl<G: Gpu> MetalSession<G> {
    pub(super) fn new(gpu: Arc<G>, model: Arc<Prepared<G>>, limits: Limits, kv_type: KvType) -> Result<Self> {
        let config = &model.config;
        // First, for who asks for more than there is.
        let cache = KvCache::new(&*gpu, config, kv_type, limits.pages)?;
        let table = |theta, scaling: &_| -> Result<G::Memory> {
            let table = RopeTable::new(theta, scaling, config.head_dim, limits.positions);
            let mut memory = gpu.allocate(size_of_val(table.values()))?;
            memory.write(0, bytemuck::cast_slice(table.values()));
            Ok(memory)
        };
        let rope = table(config.rope_theta, &config.rope_scaling)?;
        let local = |local: &LocalAttention| table(local.rope_theta, &local.rope_scaling);
        let local_rope = config.local.as_ref().map(local).transpose()?;
        let batch = Batch::new(&*gpu, limits)?;
        let activations = Activations::new(&*gpu, &model, limits)?;
        let outputs = Outputs::new(&*gpu, config, limits)?;
        let (traffic, layer_times) = (Traffic::default(), None);
        Ok(Self {
            gpu,
            model,
            limits,
            kv_type,
            cache,
            rope,
            local_rope,
            batch,
            activations,
            outputs,
            traffic,
            layer_times,
        })
    }

    /// The kernels of its type of keys and values.
    pub(super) fn kv_kernels(&self) -> &KvKernels<G> {
        self.model.kv_kernels(self.kv_type)
    }

    /// Cosines and sines of a layer.
    pub(super) fn rope_table(&self, layer: usize) -> &G::Memory {
        self.model.config.local(layer).and(self.local_rope.as_ref()).unwrap_or(&self.rope)
    }

    /// A layer of the cache, for some rows.
    pub(super) fn layer_cache<'a>(&'a self, layer: usize, rows: &'a Rows<G::Memory>) -> Cache<'a, G::Memory> {
        Cache {
            keys: self.cache.keys(),
            values: self.cache.values(),
            layer_bytes: self.cache.layer_bytes(layer),
            positions: &rows.positions,
            sequences: &rows.sequences,
            page_table: &self.batch.page_table,
            table_stride: self.batch.table_stride,
        }
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

    /// Runs a step: at once, or piece by piece where the layers are to be timed.
    fn run(&self, step: &Step<'_, G>, laps: &[Lap]) -> Result<u64> {
        let dispatches = step.dispatches();
        let Some(times) = self.layer_times.as_ref().filter(|times| times.is_on()) else {
            return Ok(self.gpu.run(dispatches)?.as_nanos() as u64);
        };
        let (mut start, mut ns) = (0, 0);
        for lap in laps {
            let time = self.gpu.run(&dispatches[start..lap.end])?;
            times.add(lap.layer, lap.half, time);
            (start, ns) = (lap.end, ns + time.as_nanos() as u64);
        }
        Ok(ns + self.gpu.run(&dispatches[start..])?.as_nanos() as u64)
    }
}

impl<G: Gpu> Session for MetalSession<G> {
    fn execute(&mut self, batch: &[Work<'_>]) -> Result<()> {
        self.check_batch(batch)?;
        let shape = attention_shape(&self.model.config, 0);
        self.batch.fill(batch, shape.tile_tokens());
        let tokens = self.batch.all.len();
        self.outputs.begin(&*self.gpu, self.batch.outputs.len()).map_err(|error| failed(error, tokens))?;
        let (mut step, mut laps) = (Step::new(), Vec::new());
        let mut traffic = self.forward(&mut step, &mut laps);
        let first = self.outputs.first_logits();
        if !first.is_empty() {
            self.model_logits(&mut step, first.clone());
            traffic.weight_bytes += self.model.head_bytes() as u64;
        }
        traffic.device_ns = self.run(&step, &laps).map_err(|error| failed(error, tokens))?;
        drop(step);
        self.outputs.computed(first);
        self.traffic = self.traffic + traffic;
        Ok(())
    }

    fn hidden(&mut self, outputs: Range<usize>) -> Result<&[f32]> {
        Ok(self.outputs.read_hidden(outputs))
    }

    fn logits(&mut self, outputs: Range<usize>) -> Result<&[f32]> {
        self.read_logits(outputs)
    }

    fn choose(&mut self, choices: &[Choice<'_>]) -> Result<()> {
        self.answer(choices)
    }

    fn candidates(&self, choice: usize) -> Result<&[Candidate]> {
        self.outputs.answer(choice)
    }

    fn copy_page(&mut self, from: Page, to: Page) {
        self.cache.copy(from, to);
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
}

/// Heads of a row of queries, keys and values.
pub(super) fn rope_shape(config: &ModelConfig, tokens: usize) -> RopeShape {
    RopeShape { tokens, heads: config.heads, kv_heads: config.kv_heads, head_dim: config.head_dim }
}

/// What attention in a layer looks at.
pub(super) fn attention_shape(config: &ModelConfig, layer: usize) -> AttentionShape {
    AttentionShape {
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        q_stride: rope_shape(config, 0).stride(),
        window: config.local(layer).map(|local| local.window),
        scale: config.score_scale,
    }
}

const _: () = assert!(PAGE == bitnet_metal::kernels::PAGE, "pages of the kernels");
