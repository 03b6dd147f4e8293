//! Int8 activations by absmax, one scale per token.

use std::cell::RefCell;

use bitnet_core::{DisjointSlice, FloatKernels, ThreadPool};

use crate::packing::{LINE, Packing};

/// Below this absmax the scale stops growing, as in the reference implementation.
pub(crate) const MIN_ABSMAX: f32 = 1e-5;

/// Tokens of int8 codes with a scale each; the memory is reused from call to call.
///
/// Per token: `scale = 127 / max(max|x|, 1e-5)`, `codes = clamp(round_half_even(x * scale), -128, 127)`, so that
/// `x` is about `codes / scale`. The sum of the codes is kept: kernels multiply by `w + 1` and subtract it.
///
/// Source: "The Era of 1-bit LLMs", arXiv 2402.17764, section 2; transformers 5.23, `ActQuant`.
#[derive(Debug, Clone, Default)]
pub struct QuantizedActivations {
    cols: usize,
    /// From one token to the next: the columns, filled up with zeros to whole lines of weights.
    stride: usize,
    codes: Vec<i8>,
    /// The same codes for many tokens: see [`Self::interleaved`]. Empty for few.
    interleaved: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

thread_local! {
    /// A token on its way to its codes; grown once for each thread.
    static PREPARED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl QuantizedActivations {
    /// Empty, with room for `tokens` tokens of up to `cols` codes: up to there nothing is allocated again.
    pub fn with_capacity(tokens: usize, cols: usize) -> Self {
        Self {
            cols: 0,
            stride: 0,
            codes: Vec::with_capacity(tokens * stride_of(cols)),
            interleaved: Vec::with_capacity(interleaved_len(tokens, stride_of(cols))),
            scales: Vec::with_capacity(tokens),
            sums: Vec::with_capacity(tokens),
        }
    }

    /// Quantizes `x`, `[tokens, cols]` row-major, in place of what was here.
    pub fn quantize(&mut self, pool: &ThreadPool, kernels: &FloatKernels, x: &[f32], cols: usize) {
        self.quantize_prepared(pool, kernels, x, cols, |x, _| x);
    }

    /// [`Self::quantize`] of `norm(x)`, one token after another, so that a normalised token need not leave the cache.
    pub fn quantize_normed(
        &mut self,
        pool: &ThreadPool,
        kernels: &FloatKernels,
        x: &[f32],
        norm: &[f32],
        eps: f32,
    ) {
        self.quantize_prepared(pool, kernels, x, norm.len(), |x, out| {
            out.resize(x.len(), 0.0);
            kernels.rms_norm(x, norm, eps, out);
            out
        });
    }

    #[expect(unsafe_code, reason = "threads write disjoint tokens")]
    fn quantize_prepared(
        &mut self,
        pool: &ThreadPool,
        kernels: &FloatKernels,
        x: &[f32],
        cols: usize,
        prepare: impl for<'a> Fn(&'a [f32], &'a mut Vec<f32>) -> &'a [f32] + Sync,
    ) {
        assert!(cols > 0 && x.len().is_multiple_of(cols), "x is [tokens, cols]");
        let tokens = x.len() / cols;
        self.cols = cols;
        self.stride = stride_of(cols);
        let stride = self.stride;
        self.codes.resize(tokens * stride, 0);
        self.scales.resize(tokens, 0.0);
        self.sums.resize(tokens, 0);
        self.interleaved.resize(interleaved_len(tokens, stride), 0);
        let codes = DisjointSlice::new(&mut self.codes);
        let interleaved = DisjointSlice::new(&mut self.interleaved);
        let scales = DisjointSlice::new(&mut self.scales);
        let sums = DisjointSlice::new(&mut self.sums);
        pool.split(tokens, TOKEN_BLOCK, |range| {
            PREPARED.with_borrow_mut(|prepared| {
                for token in range.clone() {
                    let x = prepare(&x[token * cols..(token + 1) * cols], prepared);
                    let scale = 127.0 / kernels.absmax(x).max(MIN_ABSMAX);
                    // SAFETY: each token belongs to one thread.
                    unsafe {
                        let codes = codes.part(token * stride..(token + 1) * stride);
                        let (codes, padding) = codes.split_at_mut(cols);
                        let sum = kernels.quantize(x, scale, codes);
                        padding.fill(0);
                        scales.write(token, scale);
                        sums.write(token, sum);
                    }
                }
            });
            if interleaved_len(tokens, stride) > 0 {
                for start in range.clone().step_by(TOKEN_BLOCK) {
                    let end = range.end.min(start + TOKEN_BLOCK);
                    let bytes = TOKEN_BLOCK * stride;
                    let block = start / TOKEN_BLOCK;
                    // SAFETY: ranges begin at whole blocks of tokens, each of which belongs to one thread.
                    unsafe {
                        let block = interleaved.part(block * bytes..(block + 1) * bytes);
                        interleave(codes.part(start * stride..end * stride), stride, block);
                    }
                }
            }
        });
    }

    /// Takes codes that are quantized already, `[tokens, cols]`, with a scale of 1.
    pub fn from_codes(codes: &[i8], cols: usize) -> Self {
        assert!(cols > 0 && codes.len().is_multiple_of(cols), "codes are [tokens, cols]");
        let stride = stride_of(cols);
        let sum = |token: &[i8]| token.iter().map(|&x| i32::from(x)).sum();
        let sums: Vec<i32> = codes.chunks_exact(cols).map(sum).collect();
        let mut padded = vec![0; sums.len() * stride];
        for (padded, token) in padded.chunks_exact_mut(stride).zip(codes.chunks_exact(cols)) {
            padded[..cols].copy_from_slice(token);
        }
        let interleaved = Vec::new();
        Self { cols, stride, scales: vec![1.0; sums.len()], codes: padded, interleaved, sums }.in_blocks()
    }

    /// The same tokens, in blocks as well, however few they are: see [`Self::interleaved`].
    pub(crate) fn in_blocks(&self) -> Self {
        let bytes = TOKEN_BLOCK * self.stride;
        let mut interleaved = vec![0; self.tokens().div_ceil(TOKEN_BLOCK) * bytes];
        for (tokens, block) in self.codes.chunks(bytes).zip(interleaved.chunks_exact_mut(bytes)) {
            interleave(tokens, self.stride, block);
        }
        Self { interleaved, ..self.clone() }
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.scales.len()
    }

    /// Codes per token.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// A copy of all codes, `[tokens, cols]`.
    pub fn codes(&self) -> Vec<i8> {
        (0..self.tokens()).flat_map(|token| self.token(token)).copied().collect()
    }

    /// The codes of one token.
    pub fn token(&self, token: usize) -> &[i8] {
        &self.codes[token * self.stride..][..self.cols]
    }

    /// One token, for the products of one.
    pub fn one(&self, token: usize) -> QuantizedToken<'_> {
        QuantizedToken {
            cols: self.cols,
            codes: self.padded_token(token),
            scale: &self.scales[token],
            sum: &self.sums[token],
        }
    }

    /// The codes of one token and the zeros behind them.
    pub(crate) fn padded_token(&self, token: usize) -> &[i8] {
        &self.codes[token * self.stride..][..self.stride]
    }

    /// The codes of blocks of [`TOKEN_BLOCK`] tokens, `[block][column / 4][token][4]`, zeros beyond the last token: what
    /// the product of many tokens reads lies one behind the other. [`Self::quantize`] makes them from [`MANY_TOKENS`]
    /// tokens on.
    pub(crate) fn interleaved(&self) -> &[i8] {
        &self.interleaved
    }

    /// From one token to the next.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// One scale per token: `codes = round(x * scale)`.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The sum of the codes of each token.
    pub fn sums(&self) -> &[i32] {
        &self.sums
    }
}

/// One of the tokens of [`QuantizedActivations`].
#[derive(Debug, Clone, Copy)]
pub struct QuantizedToken<'a> {
    pub(crate) cols: usize,
    /// Zeros follow the codes.
    pub(crate) codes: &'a [i8],
    pub(crate) scale: &'a f32,
    pub(crate) sum: &'a i32,
}

/// Tokens of a block.
pub(crate) const TOKEN_BLOCK: usize = 12;
/// From this many tokens on products take them in blocks.
pub(crate) const MANY_TOKENS: usize = 9;

fn interleaved_len(tokens: usize, stride: usize) -> usize {
    if tokens < MANY_TOKENS { 0 } else { tokens.div_ceil(TOKEN_BLOCK) * TOKEN_BLOCK * stride }
}

/// Interleaves up to a block of tokens.
fn interleave(tokens: &[i8], stride: usize, block: &mut [i8]) {
    if tokens.len() < block.len() {
        block.fill(0);
    }
    for (index, token) in tokens.chunks_exact(stride).enumerate() {
        let columns = block.as_chunks_mut::<{ 4 * TOKEN_BLOCK }>().0;
        for (columns, four) in columns.iter_mut().zip(token.as_chunks::<4>().0) {
            columns[4 * index..][..4].copy_from_slice(four);
        }
    }
}

/// `cols` up to whole lines of weights in every packing.
fn stride_of(cols: usize) -> usize {
    let line = |packing: Packing| cols.next_multiple_of(LINE * packing.digits());
    line(Packing::Bits2).max(line(Packing::Base3))
}

#[cfg(test)]
mod tests {
    use bitnet_core::Isa;

    use super::*;

    fn quantize(x: &[f32], cols: usize) -> QuantizedActivations {
        let mut quantized = QuantizedActivations::default();
        let kernels = FloatKernels::new(Isa::selected().unwrap()).unwrap();
        quantized.quantize(&ThreadPool::new(2).unwrap(), &kernels, x, cols);
        quantized
    }

    #[test]
    fn follows_the_formula_by_hand() {
        let quantized = quantize(&[0.5, -1.0, 0.25, 0.0, 0.0, 0.0], 3);
        assert_eq!(quantized.token(0), [64, -127, 32]);
        assert_eq!(quantized.token(1), [0, 0, 0]);
        assert_eq!(quantized.scales(), [127.0, 127.0 / 1e-5]);
        assert_eq!(quantized.sums(), [-31, 0]);
    }

    #[test]
    fn a_norm_in_the_same_pass_changes_nothing() {
        let x: Vec<f32> = (0..30 * 70).map(|i| (i as f32 * 0.731).sin() * 7.3).collect();
        let norm: Vec<f32> = (0..70).map(|i| 1.0 + i as f32 / 100.0).collect();
        let kernels = FloatKernels::new(Isa::Scalar).unwrap();
        let mut normed = vec![0.0; x.len()];
        for (x, out) in x.chunks(70).zip(normed.chunks_mut(70)) {
            kernels.rms_norm(x, &norm, 1e-5, out);
        }
        let mut quantized = QuantizedActivations::default();
        quantized.quantize_normed(&ThreadPool::new(2).unwrap(), &kernels, &x, &norm, 1e-5);
        let expected = quantize(&normed, 70);
        assert_eq!(quantized.codes(), expected.codes());
        assert_eq!((quantized.scales(), quantized.sums()), (expected.scales(), expected.sums()));
        assert_eq!(quantized.interleaved(), expected.interleaved());
    }

    #[test]
    fn the_largest_value_always_becomes_127() {
        for seed in 0_u16..200 {
            let x: Vec<f32> =
                (0..50).map(|i| ((f32::from(seed) * 50.0 + i as f32) * 0.731).sin() * 7.3).collect();
            let quantized = quantize(&x, 50);
            assert_eq!(quantized.codes().iter().map(|code| code.unsigned_abs()).max(), Some(127));
        }
    }

    #[test]
    fn memory_is_reused_and_the_result_does_not_depend_on_it() {
        let mut quantized = quantize(&[3.0; 64], 8);
        let kernels = FloatKernels::new(Isa::Scalar).unwrap();
        quantized.quantize(&ThreadPool::new(1).unwrap(), &kernels, &[1.0, -2.0], 2);
        assert_eq!((quantized.tokens(), quantized.codes()), (1, vec![64_i8, -127]));
    }
}
