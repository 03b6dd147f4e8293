//! The backward pass, in blocks of queries and keys.

use std::cell::RefCell;
use std::ops::Range;

use bitnet_core::gemm::{MatrixRef, sgemm};
use bitnet_core::{DisjointSlice, PoolVec};

use super::{Input, Output, Sizes};
use crate::Result;
use crate::autograd::floats::{Compute, uncleared};

/// Queries, and keys, of a block.
const BLOCK: usize = 64;

/// Buffers of a thread, grown once.
#[derive(Default)]
struct Buffers {
    /// Gradients of a unit, `[positions, head_dim]`.
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    /// `D` of the queries of a block.
    d: Vec<f32>,
    /// `p` and `ds` of a block, `[queries, keys]`.
    p: Vec<f32>,
    ds: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Gradients of `q`, `k` and `v`.
pub(super) fn backward(compute: &Compute, input: &Input, output: &Output) -> Result<[PoolVec<f32>; 3]> {
    let mut gradients = [uncleared(input.q.len())?, uncleared(input.k.len())?, uncleared(input.v.len())?];
    let shared = gradients.each_mut().map(|gradient| DisjointSlice::new(gradient));
    compute.pool.split(input.units(), 1, |units| {
        BUFFERS.with_borrow_mut(|buffers| {
            for unit in units {
                let (tokens, kv_head) = input.unit(unit);
                Unit { compute, input, output, tokens, kv_head }.run(&shared, buffers);
            }
        });
    });
    Ok(gradients)
}

/// A document and a head of keys and values.
struct Unit<'a> {
    compute: &'a Compute,
    input: &'a Input,
    output: &'a Output,
    tokens: Range<usize>,
    kv_head: usize,
}

impl Unit<'_> {
    fn run(&self, [dq, dk, dv]: &[DisjointSlice<'_, f32>; 3], buffers: &mut Buffers) {
        let sizes = &self.input.sizes;
        let len = self.tokens.len() * sizes.head_dim;
        for gradient in [&mut buffers.dk, &mut buffers.dv] {
            gradient.clear();
            gradient.resize(len, 0.0);
        }
        for head in self.kv_head * sizes.group()..(self.kv_head + 1) * sizes.group() {
            buffers.dq.clear();
            buffers.dq.resize(len, 0.0);
            for start in (0..self.tokens.len()).step_by(BLOCK) {
                self.queries(head, start..self.tokens.len().min(start + BLOCK), buffers);
            }
            self.store(dq, sizes.heads, head, &buffers.dq);
        }
        self.store(dk, sizes.kv_heads, self.kv_head, &buffers.dk);
        self.store(dv, sizes.kv_heads, self.kv_head, &buffers.dv);
    }

    /// A block of queries of one head, with all keys that they see.
    fn queries(&self, head: usize, queries: Range<usize>, buffers: &mut Buffers) {
        let Output { o, d_o, .. } = self.output;
        let sizes = &self.input.sizes;
        let (first, kernels) = (self.tokens.start, &self.compute.kernels);
        buffers.d.clear();
        buffers.d.extend(queries.clone().map(|query| {
            let part = sizes.part(first + query, sizes.heads, head..head + 1);
            kernels.dot_f32(&o[part.clone()], &d_o[part])
        }));
        for start in (0..queries.end).step_by(BLOCK) {
            self.block(head, &queries, &(start..queries.end.min(start + BLOCK)), buffers);
        }
    }

    fn block(&self, head: usize, queries: &Range<usize>, keys: &Range<usize>, buffers: &mut Buffers) {
        let Input { q, k, v, scale, .. } = self.input;
        let Sizes { heads, kv_heads, head_dim, .. } = self.input.sizes;
        let Buffers { dq, dk, dv, d, p, ds } = buffers;
        let q = self.matrix(q, heads, head, queries);
        let d_o = self.matrix(&self.output.d_o, heads, head, queries);
        let k = self.matrix(k, kv_heads, self.kv_head, keys);
        let v = self.matrix(v, kv_heads, self.kv_head, keys);
        for block in [&mut *p, &mut *ds] {
            block.resize(queries.len() * keys.len(), 0.0);
        }
        sgemm(q, k.transposed(), 0.0, p);
        sgemm(d_o, v.transposed(), 0.0, ds);
        let rows = p.chunks_exact_mut(keys.len()).zip(ds.chunks_exact_mut(keys.len()));
        for ((query, d), (p, ds)) in queries.clone().zip(&*d).zip(rows) {
            let seen = (query + 1).saturating_sub(keys.start).min(keys.len());
            self.weights(head, query, &mut p[..seen]);
            p[seen..].fill(0.0);
            for (ds, p) in ds.iter_mut().zip(p) {
                *ds = *p * (*ds - d) * scale;
            }
        }
        let (p, ds) = (MatrixRef::row_major(p, keys.len()), MatrixRef::row_major(ds, keys.len()));
        let part = |positions: &Range<usize>| positions.start * head_dim..positions.end * head_dim;
        sgemm(p.transposed(), d_o, 1.0, &mut dv[part(keys)]);
        sgemm(ds.transposed(), q, 1.0, &mut dk[part(keys)]);
        sgemm(ds, k, 1.0, &mut dq[part(queries)]);
    }

    /// Products of a query and keys to its weights `p`.
    fn weights(&self, head: usize, query: usize, p: &mut [f32]) {
        let log = self.output.logs[head * self.input.sizes.tokens + self.tokens.start + query];
        for p in &mut *p {
            *p *= self.input.scale;
        }
        self.compute.kernels.softmax_weights(p, log);
    }

    /// One head of some positions, of the `of` heads that a token has.
    fn matrix<'a>(&self, x: &'a [f32], of: usize, head: usize, positions: &Range<usize>) -> MatrixRef<'a> {
        let head_dim = self.input.sizes.head_dim;
        let first = ((self.tokens.start + positions.start) * of + head) * head_dim;
        MatrixRef::new(x, first, [positions.len(), head_dim], [(of * head_dim) as isize, 1])
    }

    /// Puts the gradient of a head among those of all.
    #[expect(unsafe_code, reason = "threads write disjoint heads")]
    fn store(&self, all: &DisjointSlice<'_, f32>, of: usize, head: usize, gradient: &[f32]) {
        let sizes = &self.input.sizes;
        for (token, gradient) in self.tokens.clone().zip(gradient.chunks_exact(sizes.head_dim)) {
            // SAFETY: the heads of a unit belong to one thread.
            unsafe { all.part(sizes.part(token, of, head..head + 1)) }.copy_from_slice(gradient);
        }
    }
}
