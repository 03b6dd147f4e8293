//! Causal attention with grouped queries.

use std::cell::RefCell;
use std::ops::Range;

use bitnet_core::{DisjointSlice, FloatKernels, POSITIONS};

use super::compute::Compute;
use super::kv_cache::KvCache;
use super::rows::{Rows, Span};
use crate::backend::PAGE;
use crate::config::ModelConfig;
use crate::rope::RopeTable;

/// Tokens that go through a page of keys and values together, while it is in the cache.
const TOKENS: usize = 8;

/// Positions whose values all of these tokens take before the next.
const VALUES: usize = PAGE / 2;

/// Buffers of a thread, grown once.
#[derive(Default)]
struct Buffers {
    /// A page of keys and one of values, widened.
    widened: [Vec<f32>; 2],
    /// Scores of a page of positions, `[tokens, heads, PAGE]`.
    scores: Vec<f32>,
    /// How far the softmax of each query, `[tokens, heads]`, has come.
    max: Vec<f32>,
    totals: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Rotates the keys of all rows to their positions, and writes keys and values to their pages.
#[expect(clippy::too_many_arguments, reason = "what a layer has, and what it makes")]
pub(super) fn rotate_and_store(
    compute: &Compute,
    config: &ModelConfig,
    rope: &RopeTable,
    cache: &mut KvCache,
    layer: usize,
    rows: Rows<'_>,
    k: &mut [f32],
    v: &[f32],
) {
    rotate(compute, config, rope, rows, config.kv_heads, k);
    let width = config.kv_heads * config.head_dim;
    let mut tokens = k.chunks_exact(width).zip(v.chunks_exact(width));
    for span in rows.spans() {
        for (index, (k, v)) in tokens.by_ref().take(span.tokens).enumerate() {
            let (page, slot) = span.place(index);
            cache.write(layer, page, slot, k, v);
        }
    }
}

/// Rotates `[rows, heads, head_dim]` to the positions of the rows.
#[expect(unsafe_code, reason = "threads write disjoint heads")]
pub(super) fn rotate(
    compute: &Compute,
    config: &ModelConfig,
    rope: &RopeTable,
    rows: Rows<'_>,
    heads: usize,
    x: &mut [f32],
) {
    let head_dim = config.head_dim;
    let pairs = x.len() / head_dim;
    let x = DisjointSlice::new(x);
    compute.pool.split(pairs, 64, |range| {
        for span in rows.spans() {
            let first = span.row * heads;
            for pair in range.start.max(first)..range.end.min(first + span.tokens * heads) {
                // SAFETY: each pair of token and head belongs to one thread.
                let head = unsafe { x.part(pair * head_dim..(pair + 1) * head_dim) };
                rope.rotate(span.position + pair / heads - span.row, head);
            }
        }
    });
}

/// `out[t, h] = softmax(q[t, h] . K * scale) V` over the positions up to that of token `t`, or the last of them in a layer
/// with a window; returns the bytes of keys and values that were read.
///
/// `q` and `out` are `[rows, heads, head_dim]`. Softmax runs online over pages of positions (arXiv 1805.02867), always
/// from the first: a token's result does not depend on what shares the call.
pub(super) fn attention(
    compute: &Compute,
    config: &ModelConfig,
    cache: &KvCache,
    layer: usize,
    rows: Rows<'_>,
    q: &[f32],
    out: &mut [f32],
) -> u64 {
    let window = config.local(layer).map_or(usize::MAX, |local| local.window);
    let queries_per_kv = config.heads / config.kv_heads;
    // One token has too few KV heads to share out; reading in place, its heads need not go together.
    let heads = if rows.len() == 1 && cache.is_read_in_place() { 1 } else { queries_per_kv };
    let units_per_block = config.heads / heads;
    let units_of = |span: &Span<'_>| span.tokens.div_ceil(TOKENS) * units_per_block;
    let out = DisjointSlice::new(out);
    compute.pool.split(rows.spans().map(|span| units_of(&span)).sum(), 1, |units| {
        BUFFERS.with_borrow_mut(|buffers| {
            let mut first_unit = 0;
            for span in rows.spans() {
                let end = first_unit + units_of(&span);
                for unit in units.start.max(first_unit)..units.end.min(end) {
                    let unit = unit - first_unit;
                    let first_head = unit % units_per_block * heads;
                    let first_token = unit / units_per_block * TOKENS;
                    let group = Group {
                        cache,
                        layer,
                        span,
                        kv_head: first_head / queries_per_kv,
                        heads: first_head..first_head + heads,
                        all_heads: config.heads,
                        tokens: first_token..span.tokens.min(first_token + TOKENS),
                        window,
                        scale: config.score_scale,
                    };
                    group.attend(&compute.floats, q, &out, buffers);
                }
                first_unit = end;
            }
        });
    });
    let positions: usize = rows.spans().map(|span| positions_read(&span, window)).sum();
    (positions * config.kv_heads * cache.position_bytes()) as u64
}

/// Positions whose keys and values are read for a span: every block of tokens reads those up to its last, from the page of
/// those that its first sees.
fn positions_read(span: &Span<'_>, window: usize) -> usize {
    let begin = |token: usize| (span.position + token + 1).saturating_sub(window) / PAGE * PAGE;
    let blocks = (0..span.tokens).step_by(TOKENS);
    blocks.map(|first| span.position + span.tokens.min(first + TOKENS) - begin(first)).sum()
}

/// Neighbouring heads of neighbouring tokens that share keys and values.
struct Group<'a> {
    cache: &'a KvCache,
    layer: usize,
    span: Span<'a>,
    kv_head: usize,
    heads: Range<usize>,
    all_heads: usize,
    /// Counted from the first of the span.
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
        scores.resize(queries * PAGE, 0.0);
        max.clear();
        max.resize(queries, f32::NEG_INFINITY);
        totals.clear();
        totals.resize(queries, 0.0);
        if !self.cache.is_read_in_place() {
            for buffer in &mut *widened {
                buffer.resize(PAGE * head_dim, 0.0);
            }
        }
        self.each_token(out, 0..usize::MAX, |_, out| out.fill(0.0));
        let last = self.positions(self.tokens.len() - 1);
        for start in (self.first(0) / PAGE * PAGE..last).step_by(PAGE) {
            let (page, count) = (self.span.pages[start / PAGE], PAGE.min(last - start));
            let (keys, values) = self.cache.read(self.layer, page, self.kv_head, count, widened);
            // A few keys, then a few values, stay in the first-level cache for all tokens.
            for (group, keys) in keys.chunks_exact(POSITIONS * head_dim).enumerate() {
                let at = group * POSITIONS;
                self.each_token(out, start + at..start + at + POSITIONS, |token, _| {
                    let scores = &mut scores[token * heads * PAGE + at..];
                    floats.scores(&q[self.part(token)], head_dim, keys, self.scale, scores, PAGE);
                });
            }
            self.each_token(out, start..start + PAGE, |token, out| {
                let count = PAGE.min(self.positions(token) - start);
                let unseen = self.first(token).saturating_sub(start);
                for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
                    let query = token * heads + head;
                    let (before, scores) = scores[query * PAGE..][..count].split_at_mut(unseen);
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
                    let weights = &scores[token * heads * PAGE + at..];
                    let totals = &mut totals[token * heads..][..heads];
                    floats.add_weighted(out, weights, PAGE, &values[..count * head_dim], totals);
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
        self.span.position + self.tokens.start + token + 1
    }

    /// Where the heads of a token of the group lie among those of all tokens.
    fn part(&self, token: usize) -> Range<usize> {
        let first = (self.span.row + self.tokens.start + token) * self.all_heads + self.heads.start;
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
