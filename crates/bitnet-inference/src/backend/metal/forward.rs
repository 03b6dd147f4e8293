//! The dispatches of a forward pass.

use bitnet_metal::kernels::{Norm, NormShape, Prefill};
use bitnet_metal::{Gpu, Step};

use super::batch::Rows;
use super::prepared::Layer;
use super::session::{MetalSession, attention_shape, rope_shape};
use crate::backend::Traffic;
use crate::monitor::Half;

/// The dispatch behind the last one of a half of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lap {
    pub(super) layer: usize,
    pub(super) half: Half,
    pub(super) end: usize,
}

impl<G: Gpu> MetalSession<G> {
    /// Appends what takes the batch through all layers and the last norm, and gives what it reads. As on the
    /// CPU, the last layer gives keys and values of all tokens, and the stream of the outputs alone.
    pub(super) fn forward<'a>(&'a self, step: &mut Step<'a, G>, laps: &mut Vec<Lap>) -> Traffic {
        let model = &*self.model;
        let (config, a) = (&model.config, &self.activations);
        let (all, outputs) = (&self.batch.all, &self.batch.outputs);
        let (scale, width) = (config.embedding_scale.unwrap_or(1.0), config.hidden_size);
        let table = &model.table.elements;
        step.then(model.embedding.dispatch(table, &self.batch.ids, scale, all.len(), width, &a.hidden));
        let row_bytes = width * model.table.element.size_bytes();
        let mut traffic = Traffic { weight_bytes: (all.len() * row_bytes) as u64, ..Traffic::default() };
        for (layer, block) in model.layers.iter().enumerate() {
            let is_last = layer + 1 == model.layers.len();
            let kept = if is_last { outputs } else { all };
            let stream = self.attention_half(step, &mut traffic, layer, block, kept);
            laps.push(Lap { layer, half: Half::Attention, end: step.dispatches().len() });
            if kept.len() > 0 {
                self.feed_forward_half(step, &mut traffic, block, kept.len(), stream);
            }
            laps.push(Lap { layer, half: Half::FeedForward, end: step.dispatches().len() });
        }
        if outputs.len() > 0 {
            let stream = self.stream(outputs);
            step.then(self.norm_rows(
                &model.rms_norm,
                stream,
                &model.norm,
                outputs.len(),
                self.outputs.normed(),
            ));
        }
        traffic
    }

    /// `stream += post_norm(o(sub_norm(attention(norm(stream)))))` for the rows `kept`, which then are the
    /// only ones; keys and values of all rows. Gives the stream of `kept`.
    fn attention_half<'a>(
        &'a self,
        step: &mut Step<'a, G>,
        traffic: &mut Traffic,
        layer: usize,
        block: &'a Layer<G>,
        kept: &'a Rows<G::Memory>,
    ) -> &'a G::Memory {
        let model = &*self.model;
        let (config, a, all) = (&model.config, &self.activations, &self.batch.all);
        let (eps, width) = (config.rms_norm_eps, config.hidden_size);
        let shape = rope_shape(config, all.len());
        let stride = shape.stride();
        let norm = Some(&block.attention_norm);
        let quantize = &block.quantize_normed;
        step.then(quantize.dispatch(&a.hidden, width, norm, eps, all.len(), width, &a.quantized));
        step.then(block.qkv.product.dispatch(&block.qkv.weights, &a.quantized, all.len(), &a.qkv, stride));
        traffic.weight_bytes += block.qkv.weight_bytes() as u64;
        let heads = |groups, first| NormShape {
            tokens: all.len(),
            groups,
            cols: config.head_dim,
            stride,
            first,
            out_stride: stride,
        };
        if let Some(norm) = &block.q_norm {
            step.then(model.rms_norm.dispatch(&a.qkv, norm, eps, heads(config.heads, 0), &a.qkv));
        }
        if let Some(norm) = &block.k_norm {
            let keys = heads(config.kv_heads, config.heads * config.head_dim);
            let dispatch = model.rms_norm.dispatch(&a.qkv, norm, eps, keys, &a.qkv);
            // Beside the norm of the queries, which are other columns.
            if block.q_norm.is_some() { step.beside(dispatch) } else { step.then(dispatch) }
        }
        let kv = self.kv_kernels();
        step.then(kv.rope.dispatch(&a.qkv, self.rope_table(layer), &self.layer_cache(layer, all), shape));
        let stream = self.stream(kept);
        if kept.len() == 0 {
            return stream;
        }
        let mut qkv = &a.qkv;
        if kept.len() < all.len() {
            let rows = &self.batch.output_rows;
            step.beside(model.gather.dispatch(&a.hidden, rows, 1.0, kept.len(), width, stream));
            step.then(model.gather.dispatch(&a.qkv, rows, 1.0, kept.len(), stride, &a.kept_qkv));
            qkv = &a.kept_qkv;
        }
        let positions = self.attention(step, layer, kept, qkv);
        traffic.kv_bytes += (positions * self.cache.position_bytes()) as u64;
        let (norm, q_width) = (block.attention_sub_norm.as_ref(), config.heads * config.head_dim);
        let quantize = &block.quantize_attended;
        step.then(quantize.dispatch(&a.attended, q_width, norm, eps, kept.len(), q_width, &a.quantized));
        self.add_product(step, &block.o, block.attention_post_norm.as_ref(), kept.len(), stream);
        traffic.weight_bytes += block.o.weight_bytes() as u64;
        stream
    }

    /// Attention of the rows `kept` with the queries in `qkv`; gives how many positions it reads.
    fn attention<'a>(
        &'a self,
        step: &mut Step<'a, G>,
        layer: usize,
        kept: &'a Rows<G::Memory>,
        qkv: &'a G::Memory,
    ) -> usize {
        let a = &self.activations;
        let (shape, cache) = (attention_shape(&self.model.config, layer), self.layer_cache(layer, kept));
        let attention = &self.kv_kernels().attention;
        if kept.len() <= a.decode_rows {
            for dispatch in attention.decode(qkv, &cache, &shape, kept.decode(), &a.partials, &a.attended) {
                step.then(dispatch);
            }
            return kept.positions_read(&shape, false);
        }
        let tiles = Prefill { tokens: kept.len(), tiles: &kept.tiles, count: kept.tile_count() };
        step.then(attention.prefill(qkv, &cache, &shape, tiles, &a.attended));
        kept.positions_read(&shape, true)
    }

    /// `stream += post_norm(down(sub_norm(act(gate(n)) * up(n))))`, `n = norm(stream)`, for the first `rows`
    /// rows.
    fn feed_forward_half<'a>(
        &'a self,
        step: &mut Step<'a, G>,
        traffic: &mut Traffic,
        block: &'a Layer<G>,
        rows: usize,
        stream: &'a G::Memory,
    ) {
        let (config, a) = (&self.model.config, &self.activations);
        let (eps, width, inner) = (config.rms_norm_eps, config.hidden_size, config.intermediate_size);
        let (quantize, norm) = (&block.quantize_normed, Some(&block.mlp_norm));
        step.then(quantize.dispatch(stream, width, norm, eps, rows, width, &a.quantized));
        let product = &block.gate_up.product;
        step.then(product.dispatch(&block.gate_up.weights, &a.quantized, rows, &a.gate_up, 2 * inner));
        let (quantize, norm) = (&block.quantize_gated, block.mlp_sub_norm.as_ref());
        step.then(quantize.dispatch(&a.gate_up, 2 * inner, norm, eps, rows, inner, &a.quantized));
        self.add_product(step, &block.down, block.mlp_post_norm.as_ref(), rows, stream);
        traffic.weight_bytes += (block.gate_up.weight_bytes() + block.down.weight_bytes()) as u64;
    }

    /// `stream += linear(quantized)`, or its norm where there is one.
    fn add_product<'a>(
        &'a self,
        step: &mut Step<'a, G>,
        linear: &'a super::prepared::TernaryLinear<G>,
        post_norm: Option<&'a G::Memory>,
        rows: usize,
        stream: &'a G::Memory,
    ) {
        let (a, width) = (&self.activations, self.model.config.hidden_size);
        let out = if post_norm.is_some() { a.added.as_ref() } else { Some(stream) };
        let out = out.expect("memory for what a norm is behind");
        step.then(linear.product.dispatch(&linear.weights, &a.quantized, rows, out, width));
        if let Some(norm) = post_norm {
            step.then(self.norm_rows(&self.model.add_norm, out, norm, rows, stream));
        }
    }

    /// Where the residual stream of some rows is: that of the outputs, where these are not all, has a place
    /// of its own.
    fn stream(&self, rows: &Rows<G::Memory>) -> &G::Memory {
        let is_all = rows.len() == self.batch.all.len();
        if is_all { &self.activations.hidden } else { &self.activations.kept_hidden }
    }

    fn norm_rows<'a>(
        &'a self,
        norm: &'a Norm<G>,
        x: &'a G::Memory,
        weight: &'a G::Memory,
        tokens: usize,
        out: &'a G::Memory,
    ) -> bitnet_metal::Dispatch<'a, G> {
        let cols = self.model.config.hidden_size;
        let shape = NormShape { tokens, groups: 1, cols, stride: cols, first: 0, out_stride: cols };
        norm.dispatch(x, weight, self.model.config.rms_norm_eps, shape, out)
    }
}
