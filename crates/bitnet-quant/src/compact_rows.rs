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
//! With `c = 2.84` and 128,256 rows, one token in 10^15 would be judged by a bound that does not hold. What `x` loses by
//! its rounding to 16 bits, and sums by their rounding to float32, is bounded without chance and added.

use std::ops::Range;

use bitnet_core::{Buffer, DisjointSlice, FloatKernels, Pages, ThreadPool};

use crate::kernel::planes::{GROUPS, Halves, TOGETHER};
use crate::packing::LINE;
use crate::rounding::uniform;
use crate::score_block::{SCORE_BLOCK, ScoreBlock};
use crate::{Result, TernaryKernel};

/// `c` above.
const DEVIATIONS: f32 = 2.84;
/// Codes run from 0 to 7 around 3.5: `|w / s| <= 3.49` and half a step of dither.
const CENTRE: f32 = 3.5;
const LARGEST: f32 = 3.49;
/// Columns of a block, a line of bits.
const BLOCK_COLS: usize = GROUPS * LINE;
/// Lines of a block of codes.
const LINES: usize = 3;
/// Activations are integers of 16 bits up to here, so that their high byte fits after rounding.
const LARGEST_X: f32 = 32_512.0;
/// Rows between two calls of `done`.
const ROWS_AT_ONCE: usize = 8192;
/// 3-bit codes times 16-bit activations stay below 2^31 in each half up to here.
const MAX_COLS: usize = 1 << 18;

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
    /// `u` of each column.
    dither: Vec<f32>,
}

/// The activations of one token as [`CompactRows::scores`] reads them, allocated once and
/// used again.
#[derive(Debug, Clone, Default)]
pub struct SplitActivations {
    high: Vec<i8>,
    low: Vec<i8>,
    /// What an integer of 1 stands for.
    unit: f64,
    /// The sum of the integers.
    total: i64,
    /// What to subtract from a sum of codes and integers, `sum of (3.5 + u) x`.
    offset: f64,
    margin: Option<Margin>,
}

/// What is known of the products of one token: how many steps of its row a product is from its score at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    score: f32,
    refined: f32,
}

impl CompactRows {
    /// Quantizes `rows` rows of `cols` values; `read_row(row, out)` widens one. `done(rows)` is called for each range of
    /// rows that will not be read again. `None` when the rows are too long, or there are none.
    #[expect(unsafe_code, reason = "threads write disjoint rows")]
    pub fn new(
        pool: &ThreadPool,
        floats: &FloatKernels,
        (rows, cols): (usize, usize),
        read_row: impl Fn(usize, &mut [f32]) + Sync,
        mut done: impl FnMut(Range<usize>),
    ) -> Result<Option<Self>> {
        if rows == 0 || cols == 0 || cols > MAX_COLS {
            return Ok(None);
        }
        let row_bytes = cols.div_ceil(BLOCK_COLS) * LINE;
        let dither: Vec<f32> = dither(cols);
        // Codes with their bits: `2 q + b = floor(2 (w / s + u + 3.5) + 1)`.
        let offsets: Vec<f32> = dither.iter().map(|u| 2.0 * (u + CENTRE) + 0.5).collect();
        let (mut codes, mut bits) =
            (Pages::zeroed(rows * LINES * row_bytes)?, Pages::zeroed(rows * row_bytes)?);
        let mut steps = vec![0.0; rows];
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
                    }
                }
            });
            done(start..end);
        }
        let (codes, bits) = (Buffer::from_owner(codes), Buffer::from_owner(bits));
        Ok(Some(Self { rows, cols, row_bytes, codes, bits, steps, dither }))
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of all that is kept.
    pub fn memory_bytes(&self) -> usize {
        self.codes.len() + self.bits.len() + size_of_val(&*self.steps) + size_of_val(&*self.dither)
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
    /// read of them. [`SplitActivations::margin`] says how far scores may be from the products.
    pub fn scores(
        &self,
        pool: &ThreadPool,
        kernel: &TernaryKernel,
        x: &[f32],
        tokens: &mut [SplitActivations],
        scores: &mut [f32],
        blocks: &mut [ScoreBlock],
    ) {
        /// Rows whose sums are held at a time, and whose codes stay in a cache for all tokens.
        const ROWS: usize = SCORE_BLOCK;
        let expected = [self.cols, self.rows, self.score_blocks()].map(|len| tokens.len() * len);
        assert_eq!([x.len(), scores.len(), blocks.len()], expected, "tokens are rows of each");
        for (token, x) in tokens.iter_mut().zip(x.chunks_exact(self.cols)) {
            token.fill(x, &self.dither, self.row_bytes * GROUPS);
        }
        let tokens = &*tokens;
        let row_bytes = LINES * self.row_bytes;
        let out = (DisjointSlice::new(scores), DisjointSlice::new(blocks));
        pool.split(self.rows, ROWS, |range| {
            for start in range.clone().step_by(ROWS) {
                let end = range.end.min(start + ROWS);
                let codes = &self.codes[start * row_bytes..end * row_bytes];
                let (several, single) = tokens.as_chunks::<TOGETHER>();
                for (index, several) in several.iter().enumerate() {
                    let mut sums = [[0; TOGETHER]; ROWS];
                    let halves = several.each_ref().map(SplitActivations::halves);
                    let sums = &mut sums[..end - start];
                    kernel.octal_products_together(codes, row_bytes, &halves, sums);
                    self.store(several, sums, index * TOGETHER, start, &out);
                }
                for (index, token) in single.iter().enumerate() {
                    let mut sums = [[0]; ROWS];
                    let sums = &mut sums[..end - start];
                    kernel.octal_products(codes, row_bytes, token.halves(), sums);
                    let index = several.len() * TOGETHER + index;
                    self.store(std::array::from_ref(token), sums, index, start, &out);
                }
            }
        });
    }

    /// Writes the scores that the sums of a block of rows, those from `row` on, stand for, of tokens from `token` on.
    #[expect(unsafe_code, reason = "threads write disjoint blocks of scores")]
    fn store<const TOKENS: usize>(
        &self,
        tokens: &[SplitActivations; TOKENS],
        sums: &[[i64; TOKENS]],
        token: usize,
        row: usize,
        (scores, blocks): &(DisjointSlice<'_, f32>, DisjointSlice<'_, ScoreBlock>),
    ) {
        let steps = &self.steps[row..row + sums.len()];
        for (index, split) in tokens.iter().enumerate() {
            let first = (token + index) * self.rows + row;
            // SAFETY: ranges of rows are disjoint, and so are those of tokens.
            let scores = unsafe { scores.part(first..first + sums.len()) };
            for ((score, sum), step) in scores.iter_mut().zip(sums).zip(steps) {
                *score = ((sum[index] as f64 - split.offset) * split.unit) as f32 * step;
            }
            let block = ScoreBlock::new(scores, steps, split.margin.map_or(f32::NAN, |margin| margin.score));
            // SAFETY: every block is one range of rows.
            unsafe { blocks.write((token + index) * self.score_blocks() + row / SCORE_BLOCK, block) };
        }
    }

    /// The most that the products of `rows` can be above or below their scores: infinite, or no number, for a row that
    /// is not finite.
    pub fn distances(&self, margin: Margin, rows: Range<usize>) -> impl Iterator<Item = f32> {
        self.steps[rows].iter().map(move |step| step * margin.score)
    }

    /// A better approximation than `score`, that of `row` for the activations in `split`, and its distance.
    pub fn refined(
        &self,
        kernel: &TernaryKernel,
        split: &SplitActivations,
        margin: Margin,
        row: usize,
        score: f32,
    ) -> (f32, f32) {
        let bits = &self.bits[row * self.row_bytes..][..self.row_bytes];
        let set = kernel.bit_product(bits, split.halves());
        let steps = (set as f64 / 2.0 - split.total as f64 / 4.0) * split.unit;
        (score + steps as f32 * self.steps[row], self.steps[row] * margin.refined)
    }
}

impl SplitActivations {
    fn halves(&self) -> Halves<'_> {
        [&self.high, &self.low]
    }

    /// How far scores may be from the products; `None` when the token was not finite, and its scores say nothing.
    pub fn margin(&self) -> Option<Margin> {
        self.margin
    }

    /// Rounds `x` to 16 bits, padded with zeros; to nothing but zeros when it is not finite.
    fn fill(&mut self, x: &[f32], dither: &[f32], padded: usize) {
        let is_finite = x.iter().all(|x| x.is_finite());
        let largest = x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        let unit = f64::from(largest.max(f32::MIN_POSITIVE) / LARGEST_X);
        self.high.clear();
        self.low.clear();
        let (mut offset, mut total) = (0.0, 0);
        for (x, u) in x.iter().zip(dither).take(if is_finite { x.len() } else { 0 }) {
            let integer = (f64::from(*x) / unit).round() as i32;
            let high = (integer + 128) >> 8;
            self.high.push(high as i8);
            self.low.push((integer - 256 * high) as i8);
            total += i64::from(integer);
            offset += f64::from(integer) * f64::from(CENTRE + u);
        }
        self.high.resize(padded, 0);
        self.low.resize(padded, 0);
        (self.unit, self.total, self.offset) = (unit, total, offset);
        self.margin = is_finite.then(|| Margin::new(x, unit));
    }
}

impl Margin {
    /// Of activations `x` that were rounded to multiples of `unit`.
    fn new(x: &[f32], unit: f64) -> Self {
        let norm = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let rounding_of_x = 0.5 * unit * x.len() as f64 * f64::from(CENTRE + 0.5);
        // The last term: float32 sums of products of up to 4 steps, in the approximation and in the product itself.
        let margin = |deviations: f64| ((deviations + 0.02) * norm + rounding_of_x) as f32;
        let deviations = f64::from(DEVIATIONS);
        Self { score: margin(deviations), refined: margin(deviations / 2.0) }
    }
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

/// Uniform in [-1/2, 1/2), the same in every process.
fn dither(cols: usize) -> Vec<f32> {
    const SEED: u64 = 0x0b17_0e75;
    (0..cols as u64).map(|col| uniform(SEED, col) - 0.5).collect()
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
        CompactRows::new(&pool, &floats, (rows, cols), read_row, |_| {}).unwrap().unwrap()
    }

    /// Approximations of every product with their distances.
    type Bounds = Vec<(f32, f32)>;

    /// Scores, and what they are refined to.
    fn scores(isa: Isa, rows: &CompactRows, x: &[f32]) -> Option<[Bounds; 2]> {
        let mut scores = vec![0.0; rows.rows()];
        let kernel = TernaryKernel::new(isa).unwrap();
        let mut split = [SplitActivations::default()];
        let mut blocks = vec![ScoreBlock::default(); rows.score_blocks()];
        rows.scores(&ThreadPool::new(2).unwrap(), &kernel, x, &mut split, &mut scores, &mut blocks);
        let [split] = split;
        let margin = split.margin()?;
        let refined = |(row, score): (usize, &f32)| rows.refined(&kernel, &split, margin, row, *score);
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
        ) {
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
        let x: Vec<f32> = (0..tokens * cols).map(|i| (i * 31 % 97) as f32 - 48.0).collect();
        let compact = compact(rows, cols, &w);
        let (pool, kernel) =
            (ThreadPool::new(2).unwrap(), TernaryKernel::new(Isa::selected().unwrap()).unwrap());
        let mut splits = vec![SplitActivations::default(); tokens];
        let mut together = vec![0.0; tokens * rows];
        let mut blocks = vec![ScoreBlock::default(); tokens * compact.score_blocks()];
        compact.scores(&pool, &kernel, &x, &mut splits, &mut together, &mut blocks);
        let mut blocks = blocks.chunks_exact(compact.score_blocks());
        for (token, (x, together)) in x.chunks_exact(cols).zip(together.chunks_exact(rows)).enumerate() {
            let (mut split, mut alone) = ([SplitActivations::default()], vec![0.0; rows]);
            let mut blocks_alone = vec![ScoreBlock::default(); compact.score_blocks()];
            compact.scores(&pool, &kernel, x, &mut split, &mut alone, &mut blocks_alone);
            assert_eq!(together, alone);
            assert_eq!(blocks.next().unwrap(), blocks_alone);
            let margin = split[0].margin().unwrap().score;
            let steps = compact.steps.chunks(SCORE_BLOCK);
            for ((block, scores), steps) in blocks_alone.iter().zip(alone.chunks(SCORE_BLOCK)).zip(steps) {
                assert_eq!(*block, ScoreBlock::new(scores, steps, margin));
            }
            assert_eq!(splits[token].margin(), split[0].margin());
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
