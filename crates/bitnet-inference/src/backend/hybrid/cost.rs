//! What parts of a model cost on a device, measured.

use std::time::Instant;

use super::HybridDevice;
use crate::Result;
use crate::backend::{Choice, Cut, KvType, Limits, Page, Work};
use crate::model::{Model, ModelPart};

/// What parts of a model cost on a device. A layer takes its keys and values with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeviceCost {
    /// Bytes that the device has.
    pub memory: usize,
    /// Seconds of a token in one layer.
    pub layer_s: f64,
    /// Seconds of choosing a token.
    pub head_s: f64,
    /// Bytes of one layer.
    pub layer_bytes: usize,
    /// Bytes of the embedding.
    pub embedding_bytes: usize,
    /// Bytes of last norm and head.
    pub head_bytes: usize,
    /// Bytes of embedding and head together, which may be the same matrix.
    pub ends_bytes: usize,
}

/// Layers that are timed: two, so that the weights of one push those of the other out of the nearest caches.
const LAYERS: usize = 2;

/// Tokens that are timed, behind a few that warm up.
const TOKENS: usize = 16;
const WARM_UP: usize = 3;

impl DeviceCost {
    /// Prepares a few layers of `model`, and the ends of it, on `device`, and runs some tokens one by one.
    ///
    /// Times are medians. Layers that stay in a cache look faster than all of them are.
    pub(super) fn measure(
        model: &Model,
        device: &HybridDevice,
        pages: usize,
        kv_type: KvType,
    ) -> Result<Self> {
        let limits = Limits::sequence(WARM_UP + TOKENS);
        let count = LAYERS.min(model.config.layers);
        let layers =
            device.prepare(ModelPart { embedding: None, ending: None, ..beginning(model, count) })?;
        let mut session = layers.open(limits, kv_type)?;
        let mut stream = vec![0.0; model.config.hidden_size];
        let layers_s = median(|position, id| {
            model.embedding.read_row(id as usize, &mut stream);
            timed(|| session.execute_from(&[work(position, &[id])], &stream))
        })?;
        let layer_weights = layers.weight_bytes() / count;
        let layer_keys = layers.page_bytes(kv_type) / count * pages;
        drop((session, layers));

        let ends = device.prepare(beginning(model, 1))?;
        let mut session = ends.open(limits, kv_type)?;
        let head_s = median(|position, id| {
            session.execute(&[work(position, &[id])])?;
            timed(|| session.choose(&[Choice { output: 0, cut: Cut::GREEDY }]))
        })?;
        let ends_bytes = ends.weight_bytes().saturating_sub(layer_weights);
        let embedding_bytes = model.embedding.size_bytes();
        let is_tied = model.head.is_none();
        Ok(Self {
            memory: device.memory(),
            layer_s: layers_s / count as f64,
            head_s,
            layer_bytes: layer_weights + layer_keys,
            embedding_bytes,
            head_bytes: if is_tied { ends_bytes } else { ends_bytes.saturating_sub(embedding_bytes) },
            ends_bytes,
        })
    }
}

/// The first layers of a model, with the ends of all of it.
fn beginning(model: &Model, layers: usize) -> ModelPart {
    Model {
        config: model.config.part(0..layers),
        stored: model.stored,
        decisions: Vec::new(),
        embedding: model.embedding.clone(),
        blocks: model.blocks[..layers].to_vec(),
        norm: model.norm.clone(),
        head: model.head.clone(),
        adapter: model.adapter.clone(),
    }
    .into()
}

fn work(position: usize, ids: &[u32]) -> Work<'_> {
    Work { ids, position, pages: &[Page(0)], outputs: 1 }
}

/// The median seconds of `run(position, token)`.
fn median(mut run: impl FnMut(usize, u32) -> Result<f64>) -> Result<f64> {
    let all = (0..WARM_UP + TOKENS).map(|position| run(position, position as u32));
    let all = all.collect::<Result<Vec<f64>>>()?;
    let mut seconds = all[WARM_UP..].to_vec();
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[TOKENS / 2])
}

fn timed(job: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    job()?;
    Ok(started.elapsed().as_secs_f64())
}
