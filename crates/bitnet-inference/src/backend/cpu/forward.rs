//! The forward pass of a chunk of tokens.

use std::ops::Range;
use std::sync::Arc;

use super::CpuSequence;
use super::attention::{attention, rotate, rotate_and_store};
use super::compute::Input;
use super::mlp::mlp;
use super::prepared::PreparedLinear;
use super::scratch::Scratch;
use crate::Result;
use crate::model::Attention;

/// What a forward pass shows on its way.
#[derive(Debug)]
pub(crate) enum Observed<'a> {
    /// The residual stream in front of a block, `[tokens, hidden_size]`.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it with golden states"))]
    Stream(&'a [f32]),
    /// What these of [`crate::model::Block::linears`] multiply, `[tokens, width]`. Ternary ones that take it to int8 in the
    /// pass of its norm do not show it.
    Input(Range<usize>, &'a [f32]),
}

impl CpuSequence {
    /// Runs all blocks over `ids` and appends them to the cache; the residual stream stays in the scratch buffers.
    /// The last block gives keys and values of all tokens, and the stream of the last `outputs` alone.
    /// `observe(layer, observed)` sees every block at work.
    pub(super) fn forward(
        &mut self,
        ids: &[u32],
        outputs: usize,
        observe: &mut dyn FnMut(usize, Observed<'_>),
    ) -> Result<()> {
        let model = Arc::clone(&self.model);
        let config = &model.config;
        let hidden_size = config.hidden_size;
        for (&id, out) in ids.iter().zip(self.scratch.hidden.chunks_exact_mut(hidden_size)) {
            model.embedding.read_row(id as usize, out);
            if let Some(scale) = config.embedding_scale {
                for x in out {
                    *x *= scale;
                }
            }
        }
        let row_bytes = model.embedding.size_bytes() / model.embedding.rows();
        self.traffic.weight_bytes += (ids.len() * row_bytes) as u64;
        for (layer, block) in model.blocks.iter().enumerate() {
            observe(layer, Observed::Stream(&self.scratch.hidden[..ids.len() * hidden_size]));
            let mut observe = |linears, x: &[f32]| observe(layer, Observed::Input(linears, x));
            let is_last = layer + 1 == model.blocks.len();
            let kept = if is_last { ids.len() - outputs.min(ids.len())..ids.len() } else { 0..ids.len() };
            self.attention_half(layer, &block.attention, ids.len(), kept.clone(), &mut observe)?;
            if !kept.is_empty() {
                let (scratch, traffic) = (&mut self.scratch, &mut self.traffic);
                mlp(&self.compute, config, &block.mlp, scratch, kept.clone(), traffic, &mut observe)?;
            }
            self.outputs = kept;
        }
        self.cache.advance(ids.len());
        Ok(())
    }

    /// `hidden += post_norm(o(sub_norm(attention(norm(hidden)))))` for the tokens `kept`; keys and values of all `tokens`.
    fn attention_half(
        &mut self,
        layer: usize,
        part: &Attention<PreparedLinear>,
        tokens: usize,
        kept: Range<usize>,
        observe: &mut dyn FnMut(Range<usize>, &[f32]),
    ) -> Result<()> {
        let config = &self.model.config;
        let compute = &self.compute;
        let Scratch { hidden, normed, quantized, q, k, v, attended, added, .. } = &mut self.scratch;
        let width = config.hidden_size;
        let (q_width, kv_width) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let q = &mut q[..kept.len() * q_width];
        let (k, v) = (&mut k[..tokens * kv_width], &mut v[..tokens * kv_width]);
        let eps = config.rms_norm_eps;
        let input = |x| Input { x, norm: Some(&part.norm), eps };
        let all = input(&hidden[..tokens * width]);
        let (q_output, k_output, v_output) = ((&part.q, &mut *q), (&part.k, &mut *k), (&part.v, &mut *v));
        if kept.len() == tokens {
            let outputs = [q_output, k_output, v_output];
            if let Some(x) = compute.linears(all, normed, quantized, outputs)? {
                observe(0..3, x);
            }
        } else {
            compute.linears(all, normed, quantized, [k_output, v_output])?;
            if !kept.is_empty() {
                let last = input(&hidden[kept.start * width..kept.end * width]);
                compute.linears(last, normed, quantized, [q_output])?;
            }
        }
        compute.norm_heads(q, part.q_norm.as_deref(), eps, normed);
        compute.norm_heads(k, part.k_norm.as_deref(), eps, normed);
        let position = self.cache.len() + kept.start;
        let rope = config.local(layer).and(self.local_rope.as_ref()).unwrap_or(&self.rope);
        rotate(compute, config, rope, position, config.heads, q);
        rotate_and_store(compute, config, rope, &mut self.cache, layer, k, v);
        let bytes = |linears: &[&PreparedLinear]| -> u64 {
            linears.iter().map(|linear| linear.weight_bytes() as u64).sum()
        };
        self.traffic.weight_bytes += bytes(&[&part.k, &part.v]);
        if kept.is_empty() {
            return Ok(());
        }
        let attended = &mut attended[..q.len()];
        self.traffic.kv_bytes += attention(compute, config, &self.cache, layer, position, q, attended);
        let input = Input { x: attended, norm: part.sub_norm.as_deref(), eps };
        let added = &mut added[..kept.len() * width];
        if let Some(x) = compute.linears(input, normed, quantized, [(&part.o, &mut *added)])? {
            observe(3..4, x);
        }
        let hidden = &mut hidden[kept.start * width..kept.end * width];
        compute.add_normed(hidden, added, part.post_norm.as_deref(), eps, normed);
        self.traffic.weight_bytes += bytes(&[&part.q, &part.o]);
        Ok(())
    }
}
