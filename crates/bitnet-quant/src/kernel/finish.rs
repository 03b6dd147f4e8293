//! From sums to results: offset, scales, bias, and the gate of a feed-forward network.
#![expect(unsafe_code, reason = "threads write disjoint outputs")]

use std::ops::Range;

use bitnet_core::DisjointSlice;

use crate::{PackedMatrix, QuantizedToken};

/// How many tokens ahead of its results an output is fetched: rows lie far apart.
const TOKENS_AHEAD: usize = 8;

/// What becomes of the results of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// `out = y`.
    Store,
    /// `out = relu(out)^2 * y`: `out` holds the gate of a feed-forward network, `y` is its other input. Saves a pass over
    /// memory.
    Relu2Gate,
}

/// Sums of all tokens and some rows of a product.
#[derive(Debug, Clone)]
pub(super) struct Sums<'a> {
    pub(super) rows: Range<usize>,
    /// `[tokens, stride]`, of which the first `rows.len()` of each token count.
    pub(super) values: &'a [i32],
    pub(super) stride: usize,
    /// What is subtracted from all sums of a token.
    pub(super) offsets: &'a [i32],
}

impl<'a> Sums<'a> {
    /// The sums of each token and their offset, with the place of their results in an output of `out_rows` rows.
    #[inline(always)]
    pub(super) fn tokens(&self, out_rows: usize) -> impl Iterator<Item = (Range<usize>, &'a [i32], i32)> {
        let rows = self.rows.clone();
        let sums = self.values.chunks(self.stride).zip(self.offsets).enumerate();
        sums.map(move |(token, (sums, offset))| {
            let start = token * out_rows + rows.start;
            (start..start + rows.len(), &sums[..rows.len()], *offset)
        })
    }
}

/// `out[t, r] = (sums[t, r] - offset[t]) * weight_scale / activation_scale[t] (+ bias[r])`, or what [`Then`] says.
pub(super) struct Finish<'a> {
    pub(super) weight_scale: f32,
    /// One for each token of the product.
    pub(super) activation_scales: &'a [f32],
    /// One value for each row of the product.
    pub(super) bias: Option<&'a [f32]>,
    pub(super) then: Then,
    /// `[tokens, out_rows]`. The sums of a token and row are given once.
    pub(super) out: &'a DisjointSlice<'a, f32>,
    pub(super) out_rows: usize,
}

impl<'a> Finish<'a> {
    /// Plain results of one token.
    pub(super) fn one_token(
        w: &PackedMatrix,
        x: QuantizedToken<'a>,
        out: &'a DisjointSlice<'a, f32>,
        out_rows: usize,
    ) -> Self {
        Self {
            weight_scale: w.scale(),
            activation_scales: std::slice::from_ref(x.scale),
            bias: None,
            then: Then::Store,
            out,
            out_rows,
        }
    }

    #[inline(always)]
    pub(super) fn run(&self, sums: &Sums<'_>) {
        let bias = self.bias.map(|bias| &bias[sums.rows.clone()]);
        for ((at, sums, offset), scale) in sums.tokens(self.out_rows).zip(self.activation_scales) {
            let ahead = TOKENS_AHEAD * self.out_rows;
            self.out.prefetch(at.start + ahead..at.end + ahead);
            // SAFETY: these sums are given once, to one thread.
            let out = unsafe { self.out.part(at) };
            finish(sums, offset, self.weight_scale / scale, bias, self.then, out);
        }
    }
}

#[inline(always)]
fn finish(sums: &[i32], offset: i32, factor: f32, bias: Option<&[f32]>, then: Then, out: &mut [f32]) {
    let sums = sums.iter().map(|sum| (sum - offset) as f32 * factor);
    let gate = |out: &mut f32, y: f32| {
        let positive = out.max(0.0);
        *out = positive * positive * y;
    };
    match (bias, then) {
        (None, Then::Store) => out.iter_mut().zip(sums).for_each(|(out, y)| *out = y),
        (None, Then::Relu2Gate) => out.iter_mut().zip(sums).for_each(|(out, y)| gate(out, y)),
        (Some(bias), then) => {
            for ((out, y), bias) in out.iter_mut().zip(sums).zip(bias) {
                match then {
                    Then::Store => *out = y + bias,
                    Then::Relu2Gate => gate(out, y + bias),
                }
            }
        }
    }
}
