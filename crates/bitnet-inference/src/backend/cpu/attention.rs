//! Causal attention with grouped queries.

use std::cell::RefCell;
use std::ops::Range;

use bitnet_core::{DisjointSlice, FloatKernels, POSITIONS};

use super::compute::Compute;
use super::kv_cache::{BLOCK, KvCache};
use crate::config::ModelConfig;
use crate::rope::RopeTable;

/// Tokens that go through a block of keys and values together, while it is in the cache.
const TOKENS: usize = 8;

/// Positions whose values all of these tokens take before the next.
const VALUES: usize = BLOCK / 2;

/// Buffers of a thread, grown once.
#[derive(Default)]
struct Buffers {
    /// A block of keys and one of values, widened.
    widened: [Vec<f32>; 2],
    /// Scores of a block of positions, `[tokens, heads, BLOCK]`.
    scores: Vec<f32>,
    /// How far the softmax of each query, `[tokens, heads]`, has come.
    max: Vec<f32>,
    totals: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Rotates the keys of all tokens to their positions, and appends keys and values to the cache.
pub(super) fn rotate_and_store(
    compute: &Compute,
    config: &ModelConfig,
    rope: &RopeTable,
    cache: &mut KvCache,
    layer: usize,
    k: &mut [f32],
    v: &[f32],
) {
    let position = cache.len();
    rotate(compute, config, rope, position, config.kv_heads, k);
    let width = config.kv_heads * config.head_dim;
    for (token, (k, v)) in k.chunks_exact(width).zip(v.chunks_exact(width)).enumerate() {
        cache.write(layer, position + token, k, v);
    }
}

/// Rotates `[tokens, heads, head_dim]`, the first token at `position`.
#[expect(unsafe_code, reason = "threads write disjoint heads")]
pub(super) fn rotate(
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

/// `out[t, h] = softmax(q[t, h] . K * scale) V` over the positions up to that of token `t`, or the last of them in a layer
/// with a window; returns the bytes of keys and values that were read.
///
/// `q` and `out` are `[tokens, heads, head_dim]`, the first token at `position`. Softmax runs online over blocks of
/// positions (arXiv 1805.02867), always from the first: a token's result does not depend on what shares the call.
pub(super) fn attention(
    compute: &Compute,
    config: &ModelConfig,
    cache: &KvCache,
    layer: usize,
    position: usize,
    q: &[f32],
    out: &mut [f32],
) -> u64 {
    let window = config.local(layer).map_or(usize::MAX, |local| local.window);
    let queries_per_kv = config.heads / config.kv_heads;
    let tokens = q.len() / (config.heads * config.head_dim);
    // One token has too few KV heads to share out; reading in place, its heads need not go together.
    let heads = if tokens == 1 && cache.is_read_in_place() { 1 } else { queries_per_kv };
    let units_per_block = config.heads / heads;
    let out = DisjointSlice::new(out);
    compute.pool.split(tokens.div_ceil(TOKENS) * units_per_block, 1, |units| {
        BUFFERS.with_borrow_mut(|buffers| {
            for unit in units {
                let first_head = unit % units_per_block * heads;
                let first_token = unit / units_per_block * TOKENS;
                let group = Group {
                    cache,
                    layer,
                    position,
                    kv_head: first_head / queries_per_kv,
                    heads: first_head..first_head + heads,
                    all_heads: config.heads,
                    tokens: first_token..tokens.min(first_token + TOKENS),
                    window,
                    scale: config.score_scale,
                };
                group.attend(&compute.floats, q, &out, buffers);
            }
        });
    });
    // Every block of tokens reads the positions up to its last, from the block of those that its first sees.
    let blocks = (0..tokens).step_by(TOKENS);
    let begin = |token: usize| (position + token + 1).saturating_sub(window) / BLOCK * BLOCK;
    let positions: usize = blocks.map(|first| position + tokens.min(first + TOKENS) - begin(first)).sum();
    (positions * config.kv_heads * cache.position_bytes()) as u64
}

/// Neighbouring heads of neighbouring tokens that share keys and values.
struct Group<'a> {
    cache: &'a KvCache,
    layer: usize,
    /// Of the first of all tokens.
    position: usize,
    kv_head: usize,
    heads: Range<usize>,
    all_heads: usize,
    tokens: Range<usize>,
    /// Positions that a token sees at most.
    window: usize,
    scale: f32,
}

impl Group<'_> {
    fn attend(&self, floats: &FloatKernels, q: &[f32], out: &DisjointSlice<'_, f32>, buffers: &mut Buffers) {
        let head_dim = self.cache.head_dim();
        let heads = self.heads.len();
        let Buffers { widened, scores, max, totals } = buffers;
        let queries = self.tokens.len() * heads;
        scores.resize(queries * BLOCK, 0.0);
        max.clear();
        max.resize(queries, f32::NEG_INFINITY);
        totals.clear();
        totals.resize(queries, 0.0);
        if !self.cache.is_read_in_place() {
            for buffer in &mut *widened {
                buffer.resize(BLOCK * head_dim, 0.0);
            }
        }
        self.each_token(out, 0..usize::MAX, |_, out| out.fill(0.0));
        let last = self.positions(self.tokens.len() - 1);
        for start in (self.first(0) / BLOCK * BLOCK..last).step_by(BLOCK) {
            let (keys, values) = self.cache.block(self.layer, self.kv_head, start, widened);
            // A few keys, then a few values, stay in the first-level cache for all tokens.
            for (group, keys) in keys.chunks_exact(POSITIONS * head_dim).enumerate() {
                let at = group * POSITIONS;
                self.each_token(out, start + at..start + at + POSITIONS, |token, _| {
                    let scores = &mut scores[token * heads * BLOCK + at..];
                    floats.scores(&q[self.part(token)], head_dim, keys, self.scale, scores, BLOCK);
                });
            }
            self.each_token(out, start..start + BLOCK, |token, out| {
                let count = BLOCK.min(self.positions(token) - start);
                let unseen = self.first(token).saturating_sub(start);
                for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
                    let query = token * heads + head;
                    let (before, scores) = scores[query * BLOCK..][..count].split_at_mut(unseen);
                    before.fill(0.0);
                    let highest = floats.max(scores, max[query]);
                    if highest > max[query] {
                        let shrink = (max[query] - highest).exp();
                        totals[query] *= shrink;
                        for out in out.iter_mut() {
                            *out *= shrink;
                        }
                        max[query] = highest;
                    }
                    floats.softmax_weights(scores, highest);
                }
            });
            for (part, values) in values.chunks(VALUES * head_dim).enumerate() {
                let at = part * VALUES;
                self.each_token(out, start + at..start + at + VALUES, |token, out| {
                    let count = (values.len() / head_dim).min(self.positions(token) - start - at);
                    let weights = &scores[token * heads * BLOCK + at..];
                    let totals = &mut totals[token * heads..][..heads];
                    floats.add_weighted(out, weights, BLOCK, &values[..count * head_dim], totals);
                });
            }
        }
        self.each_token(out, 0..usize::MAX, |token, out| {
            for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
                let total = totals[token * heads + head];
                for out in out {
                    *out /= total;
                }
            }
        });
    }

    /// The first position that a token of the group sees.
    fn first(&self, token: usize) -> usize {
        self.positions(token).saturating_sub(self.window)
    }

    /// The position behind the last one that a token of the group sees.
    fn positions(&self, token: usize) -> usize {
        self.position + self.tokens.start + token + 1
    }

    /// Where the heads of a token of the group lie among those of all tokens.
    fn part(&self, token: usize) -> Range<usize> {
        let first = (self.tokens.start + token) * self.all_heads + self.heads.start;
        first * self.cache.head_dim()..(first + self.heads.len()) * self.cache.head_dim()
    }

    /// Calls `visit(token, its output)` for every token that sees any of `positions`, counted from the first of the
    /// group.
    #[expect(unsafe_code, reason = "threads write disjoint heads")]
    fn each_token(
        &self,
        out: &DisjointSlice<'_, f32>,
        positions: Range<usize>,
        mut visit: impl FnMut(usize, &mut [f32]),
    ) {
        let is_seen =
            |token: &usize| self.positions(*token) > positions.start && self.first(*token) < positions.end;
        for token in (0..self.tokens.len()).filter(is_seen) {
            // SAFETY: the heads and tokens of a group belong to one thread.
            visit(token, unsafe { out.part(self.part(token)) });
        }
    }
}
