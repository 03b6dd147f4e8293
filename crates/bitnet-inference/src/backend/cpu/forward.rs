//! The forward pass of a chunk of tokens.

use std::sync::Arc;

use super::CpuSequence;
use super::attention::{attention, rotate_and_store};
use super::compute::Input;
use super::mlp::mlp;
use super::prepared::PreparedLinear;
use super::scratch::Scratch;
use crate::Result;
use crate::model::Attention;

impl CpuSequence {
    /// Runs all blocks over `ids` and appends them to the cache; the residual stream stays in the scratch buffers.
    /// `observe(layer, hidden)` sees the stream in front of every block.
    pub(super) fn forward(&mut self, ids: &[u32], observe: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let model = Arc::clone(&self.model);
        let config = &model.config;
        let hidden_size = config.hidden_size;
        for (&id, out) in ids.iter().zip(self.scratch.hidden.chunks_exact_mut(hidden_size)) {
            model.embedding.read_row(id as usize, out);
        }
        let row_bytes = model.embedding.size_bytes() / model.embedding.rows();
        self.traffic.weight_bytes += (ids.len() * row_bytes) as u64;
        for (layer, block) in model.blocks.iter().enumerate() {
            observe(layer, &self.scratch.hidden[..ids.len() * hidden_size]);
            self.attention_half(layer, &block.attention, ids.len())?;
            mlp(&self.compute, config, &block.mlp, &mut self.scratch, ids.len(), &mut self.traffic)?;
        }
        self.cache.advance(ids.len());
        Ok(())
    }

    /// `hidden += o(sub_norm(attention(norm(hidden))))`.
    fn attention_half(
        &mut self,
        layer: usize,
        part: &Attention<PreparedLinear>,
        tokens: usize,
    ) -> Result<()> {
        let config = &self.model.config;
        let compute = &self.compute;
        let Scratch { hidden, normed, quantized, q, k, v, attended, added, .. } = &mut self.scratch;
        let width = tokens * config.hidden_size;
        let (q_width, kv_width) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let (hidden, added) = (&mut hidden[..width], &mut added[..width]);
        let (q, k, v) =
            (&mut q[..tokens * q_width], &mut k[..tokens * kv_width], &mut v[..tokens * kv_width]);
        let eps = config.rms_norm_eps;
        let input = Input { x: hidden, norm: Some(&part.norm), eps };
        let outputs = [(&part.q, &mut *q), (&part.k, &mut *k), (&part.v, &mut *v)];
        compute.linears(input, normed, quantized, outputs)?;
        rotate_and_store(compute, config, &self.rope, &mut self.cache, layer, q, k, v);
        let attended = &mut attended[..q.len()];
        self.traffic.kv_bytes += attention(compute, config, &self.cache, layer, q, attended);
        let input = Input { x: attended, norm: part.sub_norm.as_deref(), eps };
        compute.linears(input, normed, quantized, [(&part.o, &mut *added)])?;
        compute.add(hidden, added);
        let linears = [&part.q, &part.k, &part.v, &part.o];
        self.traffic.weight_bytes += linears.map(PreparedLinear::weight_bytes).iter().sum::<usize>() as u64;
        Ok(())
    }
}
