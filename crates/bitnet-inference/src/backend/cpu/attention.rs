//! Causal attention with grouped queries.

use std::cell::RefCell;

use bitnet_core::{DisjointSlice, FloatKernels, POSITIONS};

use super::compute::Compute;
use super::kv_cache::{BLOCK, KvCache};
use crate::config::ModelConfig;
use crate::rope::RopeTable;

thread_local! {
    /// A block of keys and one of values, widened; grown once for each thread.
    static WIDENED: RefCell<[Vec<f32>; 2]> = RefCell::default();
}

/// Rotates the queries and keys of all tokens to their positions, and appends keys and values to the cache.
#[expect(clippy::too_many_arguments, reason = "the parts of a step that both halves of it share")]
pub(super) fn rotate_and_store(
    compute: &Compute,
    config: &ModelConfig,
    rope: &RopeTable,
    cache: &mut KvCache,
    layer: usize,
    q: &mut [f32],
    k: &mut [f32],
    v: &[f32],
) {
    let position = cache.len();
    rotate(compute, config, rope, position, config.heads, q);
    rotate(compute, config, rope, position, config.kv_heads, k);
    let width = config.kv_heads * config.head_dim;
    for (token, (k, v)) in k.chunks_exact(width).zip(v.chunks_exact(width)).enumerate() {
        cache.write(layer, position + token, k, v);
    }
}

/// Rotates `[tokens, heads, head_dim]`.
#[expect(unsafe_code, reason = "threads write disjoint heads")]
fn rotate(
    compute: &Compute,
    config: &ModelConfig,
    rope: &RopeTable,
    position: usize,
    heads: usize,
    x: &mut [f32],
) {
    let head_dim = config.head_dim;
    let pairs = x.len() / head_dim;
    let x = DisjointSlice::new(x);
    compute.pool.split(pairs, 64, |range| {
        for pair in range {
            // SAFETY: each pair of token and head belongs to one thread.
            let head = unsafe { x.part(pair * head_dim..(pair + 1) * head_dim) };
            rope.rotate(position + pair / heads, head);
        }
    });
}

/// `out[t, h] = softmax(q[t, h] . K / sqrt(head_dim)) V` over the positions up to that of token `t`; returns the bytes
/// of keys and values that were read.
///
/// `q` and `out` are `[tokens, heads, head_dim]`, the last tokens of the cache. Softmax runs online over blocks of
/// positions (arXiv 1805.02867), always from the first: a token's result does not depend on what shares the call.
#[expect(unsafe_code, reason = "threads write disjoint heads")]
pub(super) fn attention(
    compute: &Compute,
    config: &ModelConfig,
    cache: &KvCache,
    layer: usize,
    q: &[f32],
    out: &mut [f32],
) -> u64 {
    let (heads, head_dim) = (config.heads, config.head_dim);
    let queries_per_kv = heads / config.kv_heads;
    // Heads that read a block together.
    let group = if cache.is_read_in_place() { 1 } else { queries_per_kv };
    let units_per_token = heads / group;
    let tokens = q.len() / (heads * head_dim);
    let out = DisjointSlice::new(out);
    compute.pool.split(tokens * units_per_token, 1, |units| {
        WIDENED.with_borrow_mut(|buffers| {
            if !cache.is_read_in_place() {
                buffers.iter_mut().for_each(|buffer| buffer.resize(BLOCK * head_dim, 0.0));
            }
            for unit in units {
                let (token, first_head) = (unit / units_per_token, unit % units_per_token * group);
                let kv_head = first_head / queries_per_kv;
                let at = (token * heads + first_head) * head_dim..(token * heads + first_head + group) * head_dim;
                // SAFETY: each group of heads of a token belongs to one thread.
                let out = unsafe { out.part(at.clone()) };
                let positions = cache.len() + token + 1;
                attend(&compute.floats, cache, (layer, kv_head), positions, &q[at], out, buffers);
            }
        });
    });
    // Every token reads the positions up to its own.
    let positions: usize = (0..tokens).map(|token| cache.len() + token + 1).sum();
    (positions * config.kv_heads * cache.position_bytes()) as u64
}

/// A head in the course of its softmax.
#[derive(Clone, Copy)]
struct Online {
    max: f32,
    total: f32,
}

/// The most query heads that share a KV head.
const MAX_GROUP: usize = 64;

fn attend(
    floats: &FloatKernels,
    cache: &KvCache,
    (layer, kv_head): (usize, usize),
    positions: usize,
    q: &[f32],
    out: &mut [f32],
    buffers: &mut [Vec<f32>; 2],
) {
    let head_dim = cache.head_dim();
    let scale = 1.0 / (head_dim as f32).sqrt();
    let mut heads = [Online { max: f32::NEG_INFINITY, total: 0.0 }; MAX_GROUP];
    out.fill(0.0);
    for start in (0..positions).step_by(BLOCK) {
        let count = BLOCK.min(positions - start);
        let (keys, values) = cache.block(layer, kv_head, start, buffers);
        for ((q, out), online) in q.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)).zip(&mut heads) {
            let mut scores = [f32::NEG_INFINITY; BLOCK];
            let groups = scores.as_chunks_mut::<POSITIONS>().0;
            for (scores, keys) in groups.iter_mut().zip(keys.chunks_exact(POSITIONS * head_dim)) {
                floats.scores(q, keys, scale, scores);
            }
            scores[count..].fill(f32::NEG_INFINITY);
            online.add(floats, &mut scores, count, values, out);
        }
    }
    for (out, online) in out.chunks_exact_mut(head_dim).zip(heads) {
        out.iter_mut().for_each(|out| *out /= online.total);
    }
}

impl Online {
    fn add(
        &mut self,
        floats: &FloatKernels,
        scores: &mut [f32; BLOCK],
        count: usize,
        values: &[f32],
        out: &mut [f32],
    ) {
        let max = scores.iter().copied().fold(self.max, f32::max);
        if max > self.max {
            let shrink = (self.max - max).exp();
            self.total *= shrink;
            out.iter_mut().for_each(|out| *out *= shrink);
            self.max = max;
        }
        floats.softmax_weights(scores, self.max);
        self.total = floats.add_weighted(out, &scores[..count], values, self.total);
    }
}
