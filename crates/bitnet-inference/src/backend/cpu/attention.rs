//! Causal attention with grouped queries.

use bitnet_core::{DisjointSlice, FloatKernels};

use super::Compute;
use super::kv_cache::KvCache;
use crate::config::ModelConfig;

/// Positions whose scores are held at once.
const BLOCK: usize = 64;

/// `out[t, h] = softmax(q[t, h] . K / sqrt(head_dim)) V` over the positions up to that of token `t`.
///
/// `q` and `out` are `[tokens, heads, head_dim]`; the first token is at `position`. Softmax runs online over blocks of
/// positions (arXiv 1805.02867), always from the first: a token's result does not depend on what shares the call.
#[expect(unsafe_code, reason = "threads write disjoint heads")]
pub(super) fn attention(
    compute: &Compute,
    config: &ModelConfig,
    cache: &KvCache,
    layer: usize,
    position: usize,
    q: &[f32],
    out: &mut [f32],
) {
    let (heads, head_dim) = (config.heads, config.head_dim);
    let queries_per_kv = heads / config.kv_heads;
    let out = DisjointSlice::new(out);
    compute.pool.split(q.len() / head_dim, 1, |pairs| {
        for pair in pairs {
            let (token, head) = (pair / heads, pair % heads);
            let positions = position + token + 1;
            let at = pair * head_dim..(pair + 1) * head_dim;
            let keys = cache.keys(layer, head / queries_per_kv, positions);
            let values = cache.values(layer, head / queries_per_kv, positions);
            // SAFETY: each pair of token and head belongs to one thread.
            let out = unsafe { out.part(at.clone()) };
            attend(&compute.floats, &q[at], keys, values, out);
        }
    });
}

fn attend(floats: &FloatKernels, q: &[f32], keys: &[f32], values: &[f32], out: &mut [f32]) {
    let head_dim = q.len();
    let scale = 1.0 / (head_dim as f32).sqrt();
    out.fill(0.0);
    let (mut max, mut total) = (f32::NEG_INFINITY, 0.0_f32);
    let mut scores = [0.0_f32; BLOCK];
    for (keys, values) in keys.chunks(BLOCK * head_dim).zip(values.chunks(BLOCK * head_dim)) {
        let scores = &mut scores[..keys.len() / head_dim];
        for (score, key) in scores.iter_mut().zip(keys.chunks_exact(head_dim)) {
            *score = floats.dot_f32(q, key) * scale;
        }
        let block_max = scores.iter().copied().fold(max, f32::max);
        if block_max > max {
            let shrink = (max - block_max).exp();
            total *= shrink;
            for out in &mut *out {
                *out *= shrink;
            }
            max = block_max;
        }
        for (score, value) in scores.iter().zip(values.chunks_exact(head_dim)) {
            let weight = (score - max).exp();
            total += weight;
            floats.add_scaled(out, weight, value);
        }
    }
    for out in out {
        *out /= total;
    }
}
