//! The forward pass of a batch.

use std::ops::Range;
use std::sync::Arc;

use super::CpuSession;
use super::attention::{attention, rotate, rotate_and_store};
use super::compute::Input;
use super::mlp::mlp;
use super::prepared::PreparedLinear;
use super::rows::Rows;
use super::scratch::Scratch;
use crate::Result;
use crate::backend::Work;
use crate::model::Attention;
use crate::monitor::{Half, LayerClock, LayerTimes};

/// What a forward pass shows on its way.
#[derive(Debug)]
pub(crate) enum Observed<'a> {
    /// The residual stream in front of a block, `[rows, hidden_size]`.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it with golden states"))]
    Stream(&'a [f32]),
    /// What these of [`crate::model::Block::linears`] multiply, `[rows, width]`. Ternary ones that take it to int8 in the
    /// pass of its norm do not show it.
    Input(Range<usize>, &'a [f32]),
}

impl CpuSession {
    /// Runs all blocks over a batch, whose residual stream is in the scratch buffers, and writes its keys and values; what
    /// the last norm gives for its outputs stays there. The last block of a model gives keys and values of all tokens, and
    /// the stream of the outputs alone.
    /// `observe(layer, observed)` sees every block at work.
    pub(super) fn forward(
        &mut self,
        batch: &[Work<'_>],
        observe: &mut dyn FnMut(usize, Observed<'_>),
    ) -> Result<()> {
        let model = Arc::clone(&self.model);
        let config = &model.config;
        let hidden_size = config.hidden_size;
        let (all, outputs) = (Rows::all(batch), Rows::outputs(batch));
        self.tokens = all.len();
        let times = self.layer_times.clone();
        let mut clock = times.as_deref().map_or_else(LayerClock::default, LayerTimes::clock);
        for (layer, block) in model.blocks.iter().enumerate() {
            observe(layer, Observed::Stream(&self.scratch.hidden[..all.len() * hidden_size]));
            let mut observe = |linears, x: &[f32]| observe(layer, Observed::Input(linears, x));
            let is_last = model.ending.is_some() && layer + 1 == model.blocks.len();
            let kept = if is_last { outputs } else { all };
            self.attention_half(layer, &block.attention, all, kept, &mut observe)?;
            clock.lap(model.layers.start + layer, Half::Attention);
            if kept.len() > 0 {
                let (scratch, traffic) = (&mut self.scratch, &mut self.traffic);
                mlp(&self.compute, config, &block.mlp, scratch, kept.len(), traffic, &mut observe)?;
            }
            clock.lap(model.layers.start + layer, Half::FeedForward);
        }
        let Some(ending) = &model.ending else { return Ok(()) };
        let Scratch { hidden, outputs: normed, .. } = &mut self.scratch;
        normed.resize(outputs.len() * hidden_size, 0.0);
        let hidden = &hidden[..normed.len()];
        self.compute.rms_norm(hidden, &ending.norm, config.rms_norm_eps, normed);
        Ok(())
    }

    /// Writes the rows of the embedding to the residual stream.
    pub(super) fn embed(&mut self, batch: &[Work<'_>]) -> Result<()> {
        let config = &self.model.config;
        let embedding = self.model.embedding()?;
        let ids = batch.iter().flat_map(|work| work.ids);
        let mut rows = self.scratch.hidden.chunks_exact_mut(config.hidden_size);
        for (&id, out) in ids.zip(&mut rows) {
            embedding.read_row(id as usize, out);
            if let Some(scale) = config.embedding_scale {
                for x in out {
                    *x *= scale;
                }
            }
        }
        let row_bytes = embedding.size_bytes() / embedding.rows();
        self.traffic.weight_bytes += (Rows::all(batch).len() * row_bytes) as u64;
        Ok(())
    }

    /// `hidden += post_norm(o(sub_norm(attention(norm(hidden)))))` for the rows `kept`, which then are the only ones; keys
    /// and values of `all` rows.
    fn attention_half(
        &mut self,
        layer: usize,
        part: &Attention<PreparedLinear>,
        all: Rows<'_>,
        kept: Rows<'_>,
        observe: &mut dyn FnMut(Range<usize>, &[f32]),
    ) -> Result<()> {
        let config = &self.model.config;
        let compute = &self.compute;
        let Scratch { hidden, normed, quantized, q, k, v, attended, added, .. } = &mut self.scratch;
        let width = config.hidden_size;
        let (q_width, kv_width) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let q = &mut q[..kept.len() * q_width];
        let (k, v) = (&mut k[..all.len() * kv_width], &mut v[..all.len() * kv_width]);
        let eps = config.rms_norm_eps;
        let norm = Some(&*part.norm);
        let (q_output, k_output, v_output) = ((&part.q, &mut *q), (&part.k, &mut *k), (&part.v, &mut *v));
        if kept.len() == all.len() {
            let input = Input { x: &hidden[..all.len() * width], norm, eps };
            if let Some(x) = compute.linears(input, normed, quantized, [q_output, k_output, v_output])? {
                observe(0..3, x);
            }
        } else {
            let input = Input { x: &hidden[..all.len() * width], norm, eps };
            compute.linears(input, normed, quantized, [k_output, v_output])?;
            keep_outputs(hidden, all, kept, width);
            if kept.len() > 0 {
                let input = Input { x: &hidden[..kept.len() * width], norm, eps };
                compute.linears(input, normed, quantized, [q_output])?;
            }
        }
        compute.norm_heads(q, part.q_norm.as_deref(), eps, normed);
        compute.norm_heads(k, part.k_norm.as_deref(), eps, normed);
        let rope = config.local(layer).and(self.local_rope.as_ref()).unwrap_or(&self.rope);
        rotate(compute, config, rope, kept, config.heads, q);
        rotate_and_store(compute, config, rope, &mut self.cache, layer, all, k, v);
        let bytes = |linears: &[&PreparedLinear]| -> u64 {
            linears.iter().map(|linear| linear.weight_bytes() as u64).sum()
        };
        self.traffic.weight_bytes += bytes(&[&part.k, &part.v]);
        if kept.len() == 0 {
            return Ok(());
        }
        let attended = &mut attended[..q.len()];
        self.traffic.kv_bytes += attention(compute, config, &self.cache, layer, kept, q, attended);
        let input = Input { x: attended, norm: part.sub_norm.as_deref(), eps };
        let added = &mut added[..kept.len() * width];
        if let Some(x) = compute.linears(input, normed, quantized, [(&part.o, &mut *added)])? {
            observe(3..4, x);
        }
        compute.add_normed(&mut hidden[..kept.len() * width], added, part.post_norm.as_deref(), eps, normed);
        self.traffic.weight_bytes += bytes(&[&part.q, &part.o]);
        Ok(())
    }
}

/// Moves the rows `kept` of the residual stream, which holds `all`, to its beginning.
fn keep_outputs(hidden: &mut [f32], all: Rows<'_>, kept: Rows<'_>, width: usize) {
    for (from, to) in all.spans().zip(kept.spans()) {
        let first = from.row + to.skipped;
        hidden.copy_within(first * width..(first + to.tokens) * width, to.row * width);
    }
}
