//! The forward pass, with the kernels of inference and in their order.

use std::cell::RefCell;

use bitnet_core::{DisjointSlice, POSITIONS, PoolVec};

use super::Input;
use crate::Result;
use crate::autograd::floats::{Compute, uncleared};

/// Positions between two looks at the greatest score: a page of the cache of inference.
const PAGE: usize = bitnet_inference::backend::PAGE;

/// Buffers of a thread, grown once.
#[derive(Default)]
struct Buffers {
    /// Keys in groups of 16 positions, `[head_dim][16]`.
    keys: Vec<f32>,
    /// `[positions, head_dim]`.
    values: Vec<f32>,
    /// `[group, PAGE]`.
    scores: Vec<f32>,
    max: Vec<f32>,
    totals: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// `o`, `[tokens, heads, head_dim]`, and `l`, `[heads, tokens]`.
pub(super) fn forward(compute: &Compute, input: &Input) -> Result<(PoolVec<f32>, PoolVec<f32>)> {
    let mut o = uncleared(input.q.len())?;
    let mut logs = uncleared(input.sizes.tokens * input.sizes.heads)?;
    let (shared, shared_logs) = (DisjointSlice::new(&mut o), DisjointSlice::new(&mut logs));
    compute.pool.split(input.units(), 1, |units| {
        BUFFERS.with_borrow_mut(|buffers| {
            for unit in units {
                attend(compute, input, unit, &shared, &shared_logs, buffers);
            }
        });
    });
    Ok((o, logs))
}

#[expect(unsafe_code, reason = "threads write disjoint heads")]
fn attend(
    compute: &Compute,
    input: &Input,
    unit: usize,
    o: &DisjointSlice<'_, f32>,
    logs: &DisjointSlice<'_, f32>,
    buffers: &mut Buffers,
) {
    let (tokens, kv_head) = input.unit(unit);
    let sizes = &input.sizes;
    let heads = kv_head * sizes.group()..(kv_head + 1) * sizes.group();
    gather(input, unit, buffers);
    buffers.scores.resize(heads.len() * PAGE, 0.0);
    for token in tokens.clone() {
        let part = sizes.part(token, sizes.heads, heads.clone());
        // SAFETY: the heads of a unit belong to one thread.
        let out = unsafe { o.part(part.clone()) };
        token_of(compute, input, &input.q[part], token - tokens.start + 1, out, buffers);
        for (head, (max, total)) in heads.clone().zip(buffers.max.iter().zip(&buffers.totals)) {
            // SAFETY: as above.
            unsafe { logs.write(head * sizes.tokens + token, max + total.ln()) };
        }
    }
}

/// Keys and values of a unit, as the kernels read them.
fn gather(input: &Input, unit: usize, buffers: &mut Buffers) {
    let (tokens, kv_head) = input.unit(unit);
    let (sizes, head_dim) = (&input.sizes, input.sizes.head_dim);
    buffers.keys.clear();
    buffers.keys.resize(tokens.len().next_multiple_of(POSITIONS) * head_dim, 0.0);
    buffers.values.clear();
    for (position, token) in tokens.enumerate() {
        let part = sizes.part(token, sizes.kv_heads, kv_head..kv_head + 1);
        let group = &mut buffers.keys[position / POSITIONS * POSITIONS * head_dim..];
        for (d, key) in input.k[part.clone()].iter().enumerate() {
            group[d * POSITIONS + position % POSITIONS] = *key;
        }
        buffers.values.extend_from_slice(&input.v[part]);
    }
}

/// The heads of one token, which sees `seen` positions.
fn token_of(
    compute: &Compute,
    input: &Input,
    q: &[f32],
    seen: usize,
    out: &mut [f32],
    Buffers { keys, values, scores, max, totals }: &mut Buffers,
) {
    let (kernels, head_dim) = (&compute.kernels, input.sizes.head_dim);
    let heads = q.len() / head_dim;
    max.clear();
    max.resize(heads, f32::NEG_INFINITY);
    totals.clear();
    totals.resize(heads, 0.0);
    out.fill(0.0);
    for start in (0..seen).step_by(PAGE) {
        let count = PAGE.min(seen - start);
        let keys = &keys[start * head_dim..][..count.next_multiple_of(POSITIONS) * head_dim];
        kernels.scores(q, head_dim, keys, input.scale, scores, PAGE);
        for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
            let scores = &mut scores[head * PAGE..][..count];
            let highest = kernels.max(scores, max[head]);
            if highest > max[head] {
                let shrink = (max[head] - highest).exp();
                totals[head] *= shrink;
                for out in &mut *out {
                    *out *= shrink;
                }
                max[head] = highest;
            }
            kernels.softmax_weights(scores, highest);
        }
        kernels.add_weighted(out, scores, PAGE, &values[start * head_dim..][..count * head_dim], totals);
    }
    for (out, total) in out.chunks_exact_mut(head_dim).zip(totals) {
        for out in out {
            *out /= *total;
        }
    }
}
