//! Matrices of 2, 4 or 8 bits: heads, embeddings, KV caches, and what ternary weights are compared with.

use bitnet_core::{DisjointSlice, ThreadPool};

use crate::spans::{self, quantile};
use crate::weights::MIN_SCALE;
use crate::{Error, Granularity, Result, Rounding, Scales};

/// What of the range of the values is kept; what lies beyond takes the outermost code.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Clip {
    /// All of it.
    #[default]
    None,
    /// `|x|` up to this, above 0.
    Magnitude(f32),
    /// This share of the values, in 0..=1, by magnitude when the codes are symmetric, from both ends when not.
    Quantile(f64),
}

impl Clip {
    /// Errors: [`Error::InvalidClip`].
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::Magnitude(limit) if !(limit.is_finite() && limit > 0.0) => {
                Err(Error::InvalidClip(limit.into()))
            }
            Self::Quantile(share) if !(0.0..=1.0).contains(&share) => Err(Error::InvalidClip(share)),
            _ => Ok(()),
        }
    }

    /// The largest `|x|` that is kept.
    pub(crate) fn bound(self, values: &[f32]) -> f32 {
        let magnitudes = || values.iter().map(|x| x.abs());
        match self {
            Self::None => magnitudes().fold(0.0, f32::max),
            Self::Magnitude(limit) => magnitudes().fold(0.0, f32::max).min(limit),
            Self::Quantile(share) => quantile(&mut magnitudes().collect::<Vec<_>>(), share),
        }
    }

    /// The least and the largest `x` that are kept, 0 between them.
    fn range(self, values: &[f32]) -> (f32, f32) {
        let (low, high) = match self {
            Self::Quantile(share) => {
                let mut values = values.to_vec();
                (quantile(&mut values, 1.0 - share), quantile(&mut values, share))
            }
            _ => values.iter().fold((0.0_f32, 0.0_f32), |(low, high), &x| (low.min(x), high.max(x))),
        };
        let limit = if let Self::Magnitude(limit) = self { limit } else { f32::INFINITY };
        (low.min(0.0).max(-limit), high.max(0.0).min(limit))
    }
}

/// Options of [`IntMatrix::quantize`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IntOptions {
    /// 2, 4 or 8.
    pub bits: u8,
    /// Codes on both sides of 0 without a zero point; else from the least to the largest value.
    pub is_symmetric: bool,
    /// How much of the matrix shares a scale.
    pub granularity: Granularity,
    /// How values are rounded.
    pub rounding: Rounding,
    /// What of the range is kept.
    pub clip: Clip,
}

impl IntOptions {
    /// Symmetric, a scale per row, half to even, nothing clipped.
    pub fn new(bits: u8) -> Self {
        let (rounding, clip) = (Rounding::default(), Clip::default());
        Self { bits, is_symmetric: true, granularity: Granularity::Row, rounding, clip }
    }
}

/// A matrix of signed whole numbers: `W = (codes - zero_point) * scale`.
///
/// Symmetric: `scale = max|W| / q`, `q = 2^(bits - 1) - 1`, `codes = clamp(round(W / scale), -q, q)`, zero points 0.
/// Asymmetric: `scale = (high - low) / (2^bits - 1)` over the range with 0 in it, `zero_point = -q - 1 - round(low /
/// scale)`, `codes = clamp(round(W / scale) + zero_point, -q - 1, q)`. Scales are at least 1e-5 / q.
#[derive(Debug, Clone, PartialEq)]
pub struct IntMatrix {
    rows: usize,
    cols: usize,
    bits: u8,
    /// `code + 2^(bits - 1)`, lowest bits first; rows end on a byte.
    packed: Vec<u8>,
    scales: Scales,
    zero_points: Vec<i8>,
}

/// How values of a span become codes.
#[derive(Debug, Clone, Copy, Default)]
struct Grid {
    scale: f32,
    zero_point: i8,
}

impl IntMatrix {
    /// Quantizes a matrix whose rows `read_row(row, out)` widens.
    ///
    /// Errors: [`Error::InvalidBits`], [`Error::InvalidClip`], [`Error::NotFinite`], [`Error::Length`] for an empty
    /// matrix or groups of no columns.
    #[expect(unsafe_code, reason = "threads write disjoint rows")]
    pub fn quantize(
        pool: &ThreadPool,
        rows: usize,
        cols: usize,
        options: &IntOptions,
        read_row: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<Self> {
        let &IntOptions { bits, granularity, .. } = options;
        if ![2, 4, 8].contains(&bits) {
            return Err(Error::InvalidBits(bits));
        }
        options.clip.check()?;
        let fit = |values: &[f32]| Grid::new(options, values);
        let grids = spans::fit(pool, (rows, cols), granularity, &read_row, fit)?;
        let columns = spans::columns(granularity, cols);
        let row_bytes = row_bytes(cols, bits);
        let mut packed = vec![0; rows * row_bytes];
        let shared = DisjointSlice::new(&mut packed);
        pool.split(rows, 1, |range| {
            let (mut values, mut codes) = (vec![0.0; cols], vec![0; cols]);
            for row in range {
                read_row(row, &mut values);
                let first = spans::first_of_row(granularity, row, columns.len());
                for (grid, columns) in grids[first..].iter().zip(&columns) {
                    let place = (row * cols + columns.start) as u64;
                    grid.encode(options, place, &values[columns.clone()], &mut codes[columns.clone()]);
                }
                // SAFETY: each row belongs to one thread.
                pack(&codes, bits, unsafe { shared.part(row * row_bytes..(row + 1) * row_bytes) });
            }
        });
        let scales = Scales::new(granularity, rows, cols, grids.iter().map(|grid| grid.scale).collect())?;
        let zero_points = grids.iter().map(|grid| grid.zero_point).collect();
        Ok(Self { rows, cols, bits, packed, scales, zero_points })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bits of a code.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// What a step of the codes stands for.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// The code of 0, one for each scale.
    pub fn zero_points(&self) -> &[i8] {
        &self.zero_points
    }

    /// `code + 2^(bits - 1)`, lowest bits first, rows of `ceil(cols * bits / 8)` bytes.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// All codes, row-major.
    pub fn codes(&self) -> Vec<i8> {
        (0..self.rows).flat_map(|row| self.row_codes(row)).collect()
    }

    /// The codes of one row.
    pub fn row_codes(&self, row: usize) -> impl Iterator<Item = i8> + '_ {
        let row_bytes = row_bytes(self.cols, self.bits);
        let (bytes, bits) = (&self.packed[row * row_bytes..][..row_bytes], usize::from(self.bits));
        let code = move |col: usize| {
            let biased = bytes[col * bits / 8] >> (col * bits % 8) & mask(self.bits);
            (i16::from(biased) - (1 << (bits - 1))) as i8
        };
        (0..self.cols).map(code)
    }

    /// `(codes - zero_point) * scale`, row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        let granularity = self.scales.granularity();
        let spans = spans::columns(granularity, self.cols).len();
        let mut out = Vec::with_capacity(self.rows * self.cols);
        for row in 0..self.rows {
            let mut codes = self.row_codes(row);
            let first = spans::first_of_row(granularity, row, spans);
            for ((columns, scale), zero) in self.scales.of_row(row, self.cols).zip(&self.zero_points[first..])
            {
                let codes = codes.by_ref().take(columns.len());
                out.extend(codes.map(|code| f32::from(i16::from(code) - i16::from(*zero)) * scale));
            }
        }
        out
    }
}

impl Grid {
    fn new(options: &IntOptions, values: &[f32]) -> Self {
        let most = f32::from((1_i16 << (options.bits - 1)) - 1);
        if options.is_symmetric {
            return Self { scale: options.clip.bound(values).max(MIN_SCALE) / most, zero_point: 0 };
        }
        let (low, high) = options.clip.range(values);
        // The difference of two finite numbers may be none.
        let scale = (high / (2.0 * most + 1.0) - low / (2.0 * most + 1.0)).max(MIN_SCALE / most);
        let zero_point = -most - 1.0 - (low / scale).round_ties_even();
        Self { scale, zero_point: zero_point as i8 }
    }

    fn encode(self, options: &IntOptions, place: u64, x: &[f32], codes: &mut [i8]) {
        let most = f32::from((1_i16 << (options.bits - 1)) - 1);
        let least = if options.is_symmetric { -most } else { -most - 1.0 };
        let (inverse, zero) = (1.0 / self.scale, f32::from(self.zero_point));
        let x = x.iter().map(|x| x * inverse);
        options.rounding.round(place, (least - zero, most - zero), x, self.zero_point, codes);
    }
}

fn row_bytes(cols: usize, bits: u8) -> usize {
    (cols * usize::from(bits)).div_ceil(8)
}

fn mask(bits: u8) -> u8 {
    u8::MAX >> (8 - bits)
}

fn pack(codes: &[i8], bits: u8, out: &mut [u8]) {
    let half = 1_i16 << (bits - 1);
    for (byte, codes) in out.iter_mut().zip(codes.chunks(usize::from(8 / bits))) {
        let biased = codes.iter().map(|code| (i16::from(*code) + half) as u8);
        *byte = (0..).zip(biased).map(|(digit, code)| code << (bits * digit)).sum();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantize(w: &[f32], cols: usize, options: &IntOptions) -> Result<IntMatrix> {
        let pool = ThreadPool::new(2).unwrap();
        let read_row = |row: usize, out: &mut [f32]| out.copy_from_slice(&w[row * cols..][..cols]);
        IntMatrix::quantize(&pool, w.len() / cols, cols, options, read_row)
    }

    #[test]
    fn both_kinds_follow_their_formulas_by_hand() {
        let w = [7.0, -3.4, 0.5, 1.5, 0.0];
        let symmetric = quantize(&w, 5, &IntOptions::new(4)).unwrap();
        assert_eq!((symmetric.codes(), symmetric.scales().values()), (vec![7, -3, 0, 2, 0], &[1.0][..]));
        assert_eq!(symmetric.packed(), [0x5f, 0xa8, 0x08]);
        let asymmetric = IntOptions { is_symmetric: false, ..IntOptions::new(4) };
        let matrix = quantize(&[0.0, 15.0, 7.4], 3, &asymmetric).unwrap();
        assert_eq!((matrix.codes(), matrix.zero_points()), (vec![-8, 7, -1], &[-8][..]));
        assert_eq!(matrix.dequantize(), [0.0, 15.0, 7.0]);
        let matrix = quantize(&[-15.0, 0.0, -7.4], 3, &asymmetric).unwrap();
        assert_eq!((matrix.codes(), matrix.zero_points()), (vec![-8, 7, 0], &[7][..]));
        let zeros = quantize(&[0.0; 4], 2, &asymmetric).unwrap();
        assert_eq!(zeros.dequantize(), [0.0; 4]);
    }

    #[test]
    fn what_is_clipped_takes_the_outermost_code() {
        let w = [10.0, -1.0, 0.5, -10.0];
        let clip = Clip::Magnitude(1.0);
        let matrix = quantize(&w, 4, &IntOptions { clip, ..IntOptions::new(8) }).unwrap();
        assert_eq!(matrix.codes(), [127, -127, 64, -127]);
        let clip = Clip::Quantile(0.5);
        let matrix = quantize(&w, 4, &IntOptions { clip, ..IntOptions::new(8) }).unwrap();
        assert_eq!(matrix.scales().values(), [5.5 / 127.0]);
        let bad = |clip| quantize(&w, 4, &IntOptions { clip, ..IntOptions::new(8) }).unwrap_err();
        assert_eq!(bad(Clip::Quantile(1.01)), Error::InvalidClip(1.01));
        assert_eq!(bad(Clip::Magnitude(0.0)), Error::InvalidClip(0.0));
        assert_eq!(quantize(&w, 4, &IntOptions::new(3)), Err(Error::InvalidBits(3)));
        assert_eq!(quantize(&[f32::INFINITY], 1, &IntOptions::new(8)), Err(Error::NotFinite { row: 0 }));
    }

    proptest! {
        #[test]
        fn the_error_is_half_a_step(
            (cols, w) in (1_usize..30).prop_flat_map(|cols| {
                (Just(cols), prop::collection::vec(-9.0_f32..20.0, cols * 3))
            }),
            bits in prop::sample::select(vec![2_u8, 4, 8]),
            is_symmetric: bool,
            granularity in prop::sample::select(vec![Granularity::Tensor, Granularity::Row, Granularity::Group(7)]),
        ) {
            let options = IntOptions { is_symmetric, granularity, ..IntOptions::new(bits) };
            let matrix = quantize(&w, cols, &options).unwrap();
            prop_assert_eq!(matrix.packed().len(), 3 * (cols * usize::from(bits)).div_ceil(8));
            let back = matrix.dequantize();
            for row in 0..3 {
                for (columns, scale) in matrix.scales().of_row(row, cols) {
                    for at in columns.map(|col| row * cols + col) {
                        // The zero point is rounded too, so the ends of a range may lie half a step outside of it.
                        let steps = if is_symmetric { 0.5 } else { 1.0 };
                        prop_assert!((back[at] - w[at]).abs() <= (steps + 1e-3) * scale, "{} {}", back[at], w[at]);
                    }
                }
            }
        }

        #[test]
        fn stochastic_codes_are_the_neighbours(w in prop::collection::vec(-5.0_f32..5.0, 1..50), seed: u64) {
            let nearest = quantize(&w, w.len(), &IntOptions::new(8)).unwrap();
            let rounding = Rounding::Stochastic { seed };
            let matrix = quantize(&w, w.len(), &IntOptions { rounding, ..IntOptions::new(8) }).unwrap();
            for (a, b) in matrix.codes().iter().zip(nearest.codes()) {
                prop_assert!((i16::from(*a) - i16::from(b)).abs() <= 1);
            }
        }
    }
}
