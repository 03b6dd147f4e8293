//! Rows of floats in three bits and a fourth: which of them can have the largest products is known from a fifth of the
//! bytes.
//!
//! The head of a model is larger than all its ternary weights, and choosing a token needs the exact logits of a few
//! rows only. Row `w` is kept as codes `q` of three bits with one step `s` per row, quantized with a *subtractive
//! dither* `u`, drawn once from [-1/2, 1/2) for every column:
//!
//! ```text
//! q = round(w / s + u)        w = s (q - u) + e        w . x = s (q . x - u . x) + e . x
//! ```
//!
//! The error `e` of a dithered value is uniform in [-s/2, s/2) whatever the value is, and independent from column to
//! column (Schuchman 1964; Gray and Stockham 1993). A sum of such errors is sub-Gaussian with variance `s^2 |x|^2 / 12`:
//!
//! ```text
//! P(|e . x| > c s |x|) <= 2 exp(-6 c^2)
//! ```
//!
//! for every `x` that does not depend on `u`. A bit `b` beside each code, read for the rows that are still in question,
//! says in which half of its step the value lies. With it the error is uniform in [-s/4, s/4), and half as large:
//!
//! ```text
//! b = (w / s + u >= q)        w = s (q - u + b/2 - 1/4) + e'
//! ```
//!
//! Activations are rounded as well, to one byte or two: `n = round(x / U + v)` with a dither `v` of their own, so that
//! `x = U (n - v) + U r` with `r` uniform and independent of `w' = s (q - u)`. Together
//!
//! ```text
//! w . x = s U ((q - u) . n - (q - u) . v) + e . x + U w' . r        P(|U w' . r| > c U |w'|) <= 2 exp(-6 c^2)
//! ```
//!
//! where `(q - u) . v` is a number of the row, and `|w'| / s` at most `|w| / s + sqrt(cols) / 2`. Two bytes are taken where
//! one would add more than an eighth to the bound, for activations of which few are large.
//!
//! With `c = 2.84` and 128,256 rows, one token in 10^15 would be judged by a bound that does not hold. That `v` has 256
//! values, and the rounding of all this to float32, are bounded without chance and added.

mod activations;
mod score_block;

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use bitnet_core::{Buffer, DisjointSlice, FloatKernels, Pages, ThreadPool, prefetch};

pub use activations::{Margin, RoundedActivations};
pub use score_block::{SCORE_BLOCK, ScoreBlock};

use crate::kernel::planes::{GROUPS, TOGETHER};
use crate::packing::LINE;
use crate::rounding::uniform;
use crate::{Result, TernaryKernel};

/// Codes run from 0 to 7 around 3.5: `|w / s| <= 3.49` and half a step of dither.
const CENTRE: f32 = 3.5;
const LARGEST: f32 = 3.49;
/// Columns of a block, a line of bits.
const BLOCK_COLS: usize = GROUPS * LINE;
/// Lines of a block of codes.
const LINES: usize = 3;
/// Rows between two calls of `done`.
const ROWS_AT_ONCE: usize = 8192;
/// 3-bit codes times bytes stay below 2^31 up to here, and what float32 loses of their sums below what the bound allows.
const MAX_COLS: usize = 1 << 18;
/// Products of fewer vectors with a block are computed one by one.
const FEWEST_TOGETHER: usize = 3;

/// Float rows in three bits and a fourth, `[rows, cols]`.
#[derive(Debug, Clone)]
pub struct CompactRows {
    rows: usize,
    cols: usize,
    /// Bytes of a row of bits; a row of codes has three times as many.
    row_bytes: usize,
    codes: Buffer,
    bits: Buffer,
    /// `s` of each row; 0 for a row of zeros, infinite for one that is not finite.
    steps: Vec<f32>,
    /// `(q - u) . v` of each row.
    offsets: Vec<f32>,
    dither: Dither,
    /// The most that `|w'| / s` can be of any row.
    norm: f32,
}

/// What is added before rounding, the same in every process.
#[derive(Debug, Clone)]
struct Dither {
    /// `u` of each column.
    of_rows: Vec<f32>,
    /// `256 v` of each column, padded with zeros to whole blocks.
    of_activations: Vec<i8>,
}

/// Where the scores of a batch go, and what is known of each block of them.
type Out<'a> = (DisjointSlice<'a, f32>, DisjointSlice<'a, ScoreBlock>);

impl CompactRows {
    /// Quantizes `rows` rows of `cols` values; `read_row(row, out)` widens one. `done(rows)` is called for each range of
    /// rows that will not be read again. `None` when the rows are too long, or there are none.
    #[expect(unsafe_code, reason = "threads write disjoint rows")]
    pub fn new(
        pool: &ThreadPool,
        floats: &FloatKernels,
        kernel: &TernaryKernel,
        (rows, cols): (usize, usize),
        read_row: impl Fn(usize, &mut [f32]) + Sync,
        mut done: impl FnMut(Range<usize>),
    ) -> Result<Option<Self>> {
        if rows == 0 || cols == 0 || cols > MAX_COLS {
            return Ok(None);
        }
        let row_bytes = cols.div_ceil(BLOCK_COLS) * LINE;
        let dither = Dither::new(cols, row_bytes * GROUPS);
        // Codes with their bits: `2 q + b = floor(2 (w / s + u + 3.5) + 1)`.
        let offsets: Vec<f32> = dither.of_rows.iter().map(|u| 2.0 * (u + CENTRE) + 0.5).collect();
        let (mut codes, mut bits) =
            (Pages::zeroed(rows * LINES * row_bytes)?, Pages::zeroed(rows * row_bytes)?);
        let mut steps = vec![0.0; rows];
        let norm = AtomicU32::new(0);
        let shared_codes = DisjointSlice::new(codes.as_mut_slice());
        let shared_bits = DisjointSlice::new(bits.as_mut_slice());
        let shared_steps = DisjointSlice::new(&mut steps);
        for start in (0..rows).step_by(ROWS_AT_ONCE) {
            let end = rows.min(start + ROWS_AT_ONCE);
            pool.split(end - start, 16, |range| {
                let (mut values, mut scratch) = (vec![0.0; cols], vec![0; row_bytes * GROUPS]);
                for row in start + range.start..start + range.end {
                    read_row(row, &mut values);
                    // SAFETY: each row belongs to one thread.
                    unsafe {
                        let codes = shared_codes.part(row * LINES * row_bytes..(row + 1) * LINES * row_bytes);
                        let bits = shared_bits.part(row * row_bytes..(row + 1) * row_bytes);
                        let step = pack(floats, &values, &offsets, &mut scratch, codes, bits);
                        shared_steps.write(row, step);
                        if step > 0.0 && step.is_finite() {
                            let steps = norm_in_steps(floats, &values, step);
                            // Positive floats have the order of their bits.
                            norm.fetch_max(steps.to_bits(), Ordering::Relaxed);
                        }
                    }
                }
            });
            done(start..end);
        }
        let mut compact = Self {
            rows,
            cols,
            row_bytes,
            codes: Buffer::from_owner(codes),
            bits: Buffer::from_owner(bits),
            steps,
            offsets: vec![0.0; rows],
            dither,
            norm: f32::from_bits(norm.into_inner()),
        };
        compact.find_offsets(pool, kernel);
        Ok(Some(compact))
    }

    /// Fills `offsets`, which the product of codes and bytes leads to.
    #[expect(unsafe_code, reason = "threads write disjoint rows")]
    fn find_offsets(&mut self, pool: &ThreadPool, kernel: &TernaryKernel) {
        let mut offsets = std::mem::take(&mut self.offsets);
        let centres = self.dither.of_rows.iter().zip(&self.dither.of_activations);
        let centre: f64 = centres.map(|(u, v)| f64::from(CENTRE + u) * f64::from(*v)).sum();
        let shared = DisjointSlice::new(&mut offsets);
        pool.split(self.rows, SCORE_BLOCK, |range| {
            for start in range.clone().step_by(SCORE_BLOCK) {
                let rows = start..range.end.min(start + SCORE_BLOCK);
                let mut sums = [0; SCORE_BLOCK];
                let sums = &mut sums[..rows.len()];
                kernel.octal_products(
                    self.codes_of(&rows),
                    LINES * self.row_bytes,
                    &self.dither.of_activations,
                    sums,
                );
                // SAFETY: each row belongs to one thread.
                let offsets = unsafe { shared.part(rows) };
                for (offset, sum) in offsets.iter_mut().zip(sums) {
                    *offset = ((f64::from(*sum) - centre) / 256.0) as f32;
                }
            }
        });
        self.offsets = offsets;
    }

    fn codes_of(&self, rows: &Range<usize>) -> &[u8] {
        let row_bytes = LINES * self.row_bytes;
        &self.codes[rows.start * row_bytes..rows.end * row_bytes]
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of all that is kept.
    pub fn memory_bytes(&self) -> usize {
        let Dither { of_rows, of_activations } = &self.dither;
        self.codes.len()
            + self.bits.len()
            + size_of_val(&*self.steps)
            + size_of_val(&*self.offsets)
            + size_of_val(&**of_rows)
            + size_of_val(&**of_activations)
    }

    /// Bytes that [`Self::scores`] reads, however many tokens there are.
    pub fn size_bytes(&self) -> usize {
        self.codes.len()
    }

    /// Bytes that [`Self::refined`] reads.
    pub fn refined_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Blocks of [`SCORE_BLOCK`] rows, of which the last may have less.
    pub fn score_blocks(&self) -> usize {
        self.rows.div_ceil(SCORE_BLOCK)
    }

    /// Writes approximations of all products `w . x` of some tokens to `scores`, `[tokens, rows]`, and what is known of
    /// each block of them to `blocks`, `[tokens, score_blocks]`: `x` is `[tokens, cols]`, and `tokens` has room for what is
    /// read of them. [`RoundedActivations::margin`] says how far scores may be from the products.
    pub fn scores(
        &self,
        pool: &ThreadPool,
        kernel: &TernaryKernel,
        x: &[f32],
        tokens: &mut [RoundedActivations],
        scores: &mut [f32],
        blocks: &mut [ScoreBlock],
    ) {
        let expected = [self.cols, self.rows, self.score_blocks()].map(|len| tokens.len() * len);
        assert_eq!([x.len(), scores.len(), blocks.len()], expected, "tokens are rows of each");
        for (token, x) in tokens.iter_mut().zip(x.chunks_exact(self.cols)) {
            token.fill(x, &self.dither, self.norm);
        }
        let tokens = &*tokens;
        let out = (DisjointSlice::new(scores), DisjointSlice::new(blocks));
        pool.split(self.rows, SCORE_BLOCK, |range| {
            for start in range.clone().step_by(SCORE_BLOCK) {
                self.score_block(kernel, tokens, start..range.end.min(start + SCORE_BLOCK), &out);
            }
        });
    }

    /// The scores of all tokens and one block of rows, whose codes stay in a cache meanwhile.
    fn score_block(
        &self,
        kernel: &TernaryKernel,
        tokens: &[RoundedActivations],
        rows: Range<usize>,
        out: &Out<'_>,
    ) {
        let (codes, row_bytes, len) = (self.codes_of(&rows), LINES * self.row_bytes, rows.len());
        let mut sums = [[0; SCORE_BLOCK]; TOGETHER];
        for (chunk, first) in tokens.chunks(TOGETHER).zip((0..).step_by(TOGETHER)) {
            if chunk.len() >= FEWEST_TOGETHER && !chunk.iter().any(RoundedActivations::is_wide) {
                // What is missing of a chunk is its first token once more.
                let x = std::array::from_fn(|i| chunk.get(i).unwrap_or(&chunk[0]).bytes());
                let mut places = sums.each_mut().map(|sums| &mut sums[..len]);
                kernel.octal_products_together(codes, row_bytes, &x, &mut places);
                for (token, (index, sums)) in chunk.iter().zip((first..).zip(places)) {
                    self.store(token, index, &rows, sums.iter().map(|sum| *sum as f32), out);
                }
                continue;
            }
            for (token, index) in chunk.iter().zip(first..) {
                let [high, low, ..] = &mut sums;
                let (high, low) = (&mut high[..len], &mut low[..len]);
                if token.is_wide() {
                    kernel.octal_products_wide(codes, row_bytes, &token.halves(), &mut [high, low]);
                    let sums = high.iter().zip(low).map(|(high, low)| 256.0 * *high as f32 + *low as f32);
                    self.store(token, index, &rows, sums, out);
                } else {
                    kernel.octal_products(codes, row_bytes, token.bytes(), low);
                    self.store(token, index, &rows, low.iter().map(|sum| *sum as f32), out);
                }
            }
        }
    }

    /// Writes the scores that the sums of a block of rows stand for, of the token at `index` of the batch.
    #[expect(unsafe_code, reason = "threads write disjoint blocks of scores")]
    fn store(
        &self,
        token: &RoundedActivations,
        index: usize,
        rows: &Range<usize>,
        sums: impl Iterator<Item = f32>,
        (scores, blocks): &Out<'_>,
    ) {
        let (steps, offsets) = (&self.steps[rows.clone()], &self.offsets[rows.clone()]);
        let first = index * self.rows + rows.start;
        // SAFETY: ranges of rows are disjoint, and so are those of tokens.
        let scores = unsafe { scores.part(first..first + rows.len()) };
        for ((score, sum), (step, offset)) in scores.iter_mut().zip(sums).zip(steps.iter().zip(offsets)) {
            *score = token.steps(sum, *offset) * step;
        }
        let block = ScoreBlock::new(scores, steps, token.margin().map_or(f32::NAN, |margin| margin.score));
        // SAFETY: every block is one range of rows.
        unsafe { blocks.write(index * self.score_blocks() + rows.start / SCORE_BLOCK, block) };
    }

    /// The most that the products of `rows` can be above or below their scores: infinite, or no number, for a row that
    /// is not finite.
    pub fn distances(&self, margin: Margin, rows: Range<usize>) -> impl Iterator<Item = f32> {
        self.steps[rows].iter().map(move |step| step * margin.score)
    }

    /// Starts fetching what [`Self::refined`] reads of `row`.
    pub fn prefetch_refined(&self, row: usize) {
        let bits = &self.bits[row * self.row_bytes..][..self.row_bytes];
        bits.chunks(LINE).for_each(|line| prefetch::near(line.as_ptr()));
    }

    /// A better approximation than `score`, that of `row` for the activations of `token`, and its distance.
    pub fn refined(
        &self,
        kernel: &TernaryKernel,
        token: &RoundedActivations,
        margin: Margin,
        row: usize,
        score: f32,
    ) -> (f32, f32) {
        let bits = &self.bits[row * self.row_bytes..][..self.row_bytes];
        let steps = token.steps_of_bits(|x| kernel.bit_product(bits, x));
        (score + steps * self.steps[row], self.steps[row] * margin.refined)
    }
}

impl Dither {
    /// Of `cols` columns, that of activations as long as their bytes.
    fn new(cols: usize, padded: usize) -> Self {
        const SEEDS: [u64; 2] = [0x0b17_0e75, 0x0b17_0ac7];
        let [of_rows, of_activations] =
            SEEDS.map(|seed| (0..cols as u64).map(move |col| uniform(seed, col) - 0.5));
        let mut of_activations: Vec<i8> = of_activations.map(|v| (256.0 * v).floor() as i8).collect();
        of_activations.resize(padded, 0);
        Self { of_rows: of_rows.collect(), of_activations }
    }
}

/// The most that `|w'|` can be, in steps.
fn norm_in_steps(floats: &FloatKernels, values: &[f32], step: f32) -> f32 {
    /// For what float32 loses of the squares.
    const SLACK: f32 = 1.001;
    let cols = (values.len() as f32).sqrt();
    // Squares of other values could be 0 or infinite.
    let of_values = if (1e-12..1e12).contains(&step) {
        SLACK * floats.dot_f32(values, values).sqrt() / step
    } else {
        LARGEST * cols
    };
    of_values + 0.5 * cols
}

/// Packs one row into `codes` and `bits`, which are zeros, and returns its step. `scratch` is room for the padded row.
fn pack(
    floats: &FloatKernels,
    values: &[f32],
    offsets: &[f32],
    scratch: &mut [u8],
    codes: &mut [u8],
    bits: &mut [u8],
) -> f32 {
    let is_finite = values.iter().fold(true, |all, value| all & value.is_finite());
    let step = floats.absmax(values) / LARGEST;
    if !is_finite {
        return f32::INFINITY;
    }
    if step < f32::MIN_POSITIVE {
        // Too small to divide by: the products are 0 as far as a margin is concerned, unless they are compared.
        return if step == 0.0 { 0.0 } else { f32::INFINITY };
    }
    floats.codes(values, 2.0 / step, offsets, &mut scratch[..values.len()]);
    let blocks = codes.chunks_exact_mut(LINES * LINE).zip(bits.chunks_exact_mut(LINE));
    for ((codes, bits), scratch) in blocks.zip(scratch.chunks_exact(BLOCK_COLS)) {
        let (pairs, thirds) = codes.split_at_mut(2 * LINE);
        for (group, scratch) in scratch.chunks_exact(LINE).enumerate() {
            let pairs = &mut pairs[group / 4 * LINE..][..LINE];
            for i in 0..LINE {
                pairs[i] |= (scratch[i] >> 1 & 3) << (2 * (group % 4));
                thirds[i] |= (scratch[i] >> 3) << group;
                bits[i] |= (scratch[i] & 1) << group;
            }
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use bitnet_core::Isa;
    use proptest::prelude::*;

    use super::*;

    fn compact(rows: usize, cols: usize, w: &[f32]) -> CompactRows {
        let pool = ThreadPool::new(2).unwrap();
        let floats = FloatKernels::new(Isa::Scalar).unwrap();
        let read_row = |row: usize, out: &mut [f32]| out.copy_from_slice(&w[row * cols..][..cols]);
        let kernel = TernaryKernel::new(Isa::Scalar).unwrap();
        CompactRows::new(&pool, &floats, &kernel, (rows, cols), read_row, |_| {}).unwrap().unwrap()
    }

    /// Approximations of every product with their distances.
    type Bounds = Vec<(f32, f32)>;

    /// Scores, and what they are refined to.
    fn scores(isa: Isa, rows: &CompactRows, x: &[f32]) -> Option<[Bounds; 2]> {
        let mut scores = vec![0.0; rows.rows()];
        let kernel = TernaryKernel::new(isa).unwrap();
        let mut rounded = [RoundedActivations::default()];
        let mut blocks = vec![ScoreBlock::default(); rows.score_blocks()];
        rows.scores(&ThreadPool::new(2).unwrap(), &kernel, x, &mut rounded, &mut scores, &mut blocks);
        let [rounded] = rounded;
        let margin = rounded.margin()?;
        let refined = |(row, score): (usize, &f32)| rows.refined(&kernel, &rounded, margin, row, *score);
        let refined = scores.iter().enumerate().map(refined).collect();
        let distances = rows.distances(margin, 0..rows.rows());
        Some([scores.iter().copied().zip(distances).collect(), refined])
    }

    proptest! {
        #[test]
        fn every_product_lies_within_its_margin_on_every_instruction_set(
            (rows, cols, w, x) in (1_usize..30, 1_usize..1200).prop_flat_map(|(rows, cols)| (
                Just(rows),
                Just(cols),
                prop::collection::vec(-3.0_f32..3.0, rows * cols),
                prop::collection::vec(-50.0_f32..50.0, cols),
            )),
            outlier in prop::option::of(-1e5_f32..1e5),
        ) {
            let mut x = x;
            if let Some(outlier) = outlier {
                x[cols / 2] = outlier;
            }
            let compact = compact(rows, cols, &w);
            let expected = scores(Isa::Scalar, &compact, &x).unwrap();
            for isa in Isa::available() {
                prop_assert_eq!(&scores(isa, &compact, &x).unwrap(), &expected);
            }
            for (row, w) in w.chunks_exact(cols).enumerate() {
                let exact: f64 = w.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                for bounds in &expected {
                    let (score, allowed) = bounds[row];
                    let distance = (f64::from(score) - exact).abs();
                    prop_assert!(distance <= f64::from(allowed), "row {} {}", row, distance);
                }
            }
        }
    }

    #[test]
    fn the_error_has_the_variance_of_the_proof() {
        let (rows, cols) = (400, 512);
        let w: Vec<f32> =
            (0..rows * cols).map(|i| ((i * 7919 % 10_007) as f32 / 5003.0 - 1.0).powi(3)).collect();
        let x: Vec<f32> = (0..cols).map(|i| ((i * 31 % 97) as f32 - 48.0) / 10.0).collect();
        let compact = compact(rows, cols, &w);
        let bounds = scores(Isa::Scalar, &compact, &x).unwrap();
        let norm = x.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
        for (bounds, steps) in bounds.iter().zip([1.0, 0.5]) {
            let errors = (0..rows).map(|row| {
                let exact: f64 =
                    w[row * cols..][..cols].iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                (f64::from(bounds[row].0) - exact) / (steps * f64::from(compact.steps[row]) * norm)
            });
            let variance = errors.map(|error| error * error).sum::<f64>() / rows as f64;
            assert!((variance * 12.0 - 1.0).abs() < 0.3, "{variance}");
        }
    }

    #[test]
    fn tokens_together_have_the_scores_they_have_alone() {
        let (rows, cols, tokens) = (150, 700, 11);
        let w: Vec<f32> = (0..rows * cols).map(|i| (i * 7919 % 1009) as f32 / 504.0 - 1.0).collect();
        let mut x: Vec<f32> = (0..tokens * cols).map(|i| (i * 31 % 97) as f32 - 48.0).collect();
        // One of the last, so that the first are computed together.
        x[9 * cols] = 1e5;
        let compact = compact(rows, cols, &w);
        let (pool, kernel) =
            (ThreadPool::new(2).unwrap(), TernaryKernel::new(Isa::selected().unwrap()).unwrap());
        let mut rounded = vec![RoundedActivations::default(); tokens];
        let mut together = vec![0.0; tokens * rows];
        let mut blocks = vec![ScoreBlock::default(); tokens * compact.score_blocks()];
        compact.scores(&pool, &kernel, &x, &mut rounded, &mut together, &mut blocks);
        let mut blocks = blocks.chunks_exact(compact.score_blocks());
        for (token, (x, together)) in x.chunks_exact(cols).zip(together.chunks_exact(rows)).enumerate() {
            let (mut alone_rounded, mut alone) = ([RoundedActivations::default()], vec![0.0; rows]);
            let mut blocks_alone = vec![ScoreBlock::default(); compact.score_blocks()];
            compact.scores(&pool, &kernel, x, &mut alone_rounded, &mut alone, &mut blocks_alone);
            assert_eq!(together, alone);
            assert_eq!(blocks.next().unwrap(), blocks_alone);
            let margin = alone_rounded[0].margin().unwrap().score;
            let steps = compact.steps.chunks(SCORE_BLOCK);
            for ((block, scores), steps) in blocks_alone.iter().zip(alone.chunks(SCORE_BLOCK)).zip(steps) {
                assert_eq!(*block, ScoreBlock::new(scores, steps, margin));
            }
            assert_eq!(rounded[token].margin(), alone_rounded[0].margin());
            assert_eq!(rounded[token].is_wide(), token == 9);
        }
    }

    #[test]
    fn what_is_not_finite_has_no_bound() {
        let rows = compact(3, 2, &[1.0, f32::NAN, 0.0, 0.0, f32::INFINITY, 1.0]);
        for bounds in scores(Isa::Scalar, &rows, &[1.0, 2.0]).unwrap() {
            let is_finite: Vec<bool> = bounds.iter().map(|(_, distance)| distance.is_finite()).collect();
            assert_eq!(is_finite, [false, true, false]);
        }
        assert!(scores(Isa::Scalar, &rows, &[f32::NAN, 0.0]).is_none());
        assert!(scores(Isa::Scalar, &rows, &[0.0, 0.0]).is_some());
    }
}
