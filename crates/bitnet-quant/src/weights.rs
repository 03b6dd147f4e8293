//! Float weights to ternary ones.
//!
//! The rules differ in what they measure and where they cut; each can be applied to the whole matrix, to each row, or
//! to groups of columns. Sums are taken row by row and added in order: the same on any number of threads.

use std::str::FromStr;

use bitnet_core::{DisjointSlice, ThreadPool};

use crate::rows::{Lent, Rows};
use crate::spans::{self, quantile};
use crate::wide::{sum_abs, ternary_codes};
use crate::{Error, Granularity, Result, Rounding, Scales, TernaryMatrix};

/// Below this the scale stops following the weights, as in the reference implementation.
pub const MIN_SCALE: f32 = 1e-5;

/// How weights become ternary. Scales are at least 1e-5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TernaryRule {
    /// `scale = mean|W|`, `codes = clamp(round(W / scale), -1, 1)`: BitNet b1.58, arXiv 2402.17764, section 2.
    #[default]
    Absmean,
    /// `scale = median|W|`, codes as for [`Self::Absmean`]: "BitNet b1.58 Reloaded", arXiv 2407.09527.
    Absmedian,
    /// `codes = sign(W)` where `|W| > 0.7 mean|W|`, else 0; `scale` is the mean of those `|W|`: Ternary Weight Networks,
    /// arXiv 1605.04711.
    Threshold,
    /// `codes = sign(W - mean(W))`, -1 for 0; `scale = mean|W|`. No zeros: one bit. BitNet, arXiv 2310.11453.
    Sign,
}

impl TernaryRule {
    /// Every rule.
    pub const ALL: [Self; 4] = [Self::Absmean, Self::Absmedian, Self::Threshold, Self::Sign];

    /// Name in Python and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absmean => "absmean",
            Self::Absmedian => "absmedian",
            Self::Threshold => "threshold",
            Self::Sign => "sign",
        }
    }
}

impl FromStr for TernaryRule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|rule| rule.name() == name)
            .ok_or_else(|| Error::UnknownRule(name.to_owned()))
    }
}

/// Options of [`quantize_weights_with`]; by default the rule of BitNet b1.58.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TernaryOptions {
    /// What is measured and where it is cut.
    pub rule: TernaryRule,
    /// How much of the matrix shares a scale.
    pub granularity: Granularity,
    /// How `W / scale` is rounded. [`TernaryRule::Threshold`] and [`TernaryRule::Sign`] do not round.
    pub rounding: Rounding,
}

impl Default for TernaryOptions {
    fn default() -> Self {
        let (rule, rounding) = (TernaryRule::default(), Rounding::default());
        Self { rule, granularity: Granularity::Tensor, rounding }
    }
}

/// Ternarises a float matrix: `scale = max(mean|W|, 1e-5)`, `codes = clamp(round_half_even(W / scale), -1, 1)`.
///
/// `read_row(row, out)` widens row `row` (`cols` float32 values), so that a master of any type is read in place.
/// `W / scale` is computed as `W * (1 / scale)`, as the models were trained.
///
/// Errors: [`Error::NotFinite`] names the first row with an infinity or NaN; [`Error::Length`] for an empty matrix.
///
/// Source: "The Era of 1-bit LLMs", arXiv 2402.17764, section 2; transformers 5.23, `WeightQuant`.
pub fn quantize_weights(
    pool: &ThreadPool,
    rows: usize,
    cols: usize,
    read_row: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<TernaryMatrix> {
    quantize_weights_with(pool, rows, cols, &TernaryOptions::default(), read_row)
}

/// [`quantize_weights`] by any rule, granularity and rounding.
///
/// Errors: as for [`quantize_weights`]; [`Error::Length`] for groups of no columns.
pub fn quantize_weights_with(
    pool: &ThreadPool,
    rows: usize,
    cols: usize,
    options: &TernaryOptions,
    read_row: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<TernaryMatrix> {
    quantize_rows(pool, rows, cols, options, &read_row)
}

/// [`quantize_weights_with`] of a float32 matrix in memory, row-major, which is read where it lies.
///
/// Errors: as for [`quantize_weights_with`]; [`Error::Length`] when `w` is not whole rows of `cols` values.
pub fn quantize_matrix(
    pool: &ThreadPool,
    w: &[f32],
    cols: usize,
    options: &TernaryOptions,
) -> Result<TernaryMatrix> {
    let rows = w.len() / cols.max(1);
    if rows * cols != w.len() {
        return Err(Error::Length { what: "weights in whole rows", expected: rows * cols, got: w.len() });
    }
    quantize_rows(pool, rows, cols, options, &Lent { values: w, cols })
}

fn quantize_rows(
    pool: &ThreadPool,
    rows: usize,
    cols: usize,
    options: &TernaryOptions,
    source: &impl Rows,
) -> Result<TernaryMatrix> {
    let &TernaryOptions { rule, granularity, rounding } = options;
    let fits = match (rule, granularity) {
        (TernaryRule::Absmean, Granularity::Tensor) => vec![absmean(pool, rows, cols, source)?],
        _ => spans::fit(pool, (rows, cols), granularity, source, |values| Fit::new(rule, values))?,
    };
    let columns = spans::columns(granularity, cols);
    let scales =
        Scales::new(granularity, rows, cols, fits.iter().map(|fit| fit.scale.max(MIN_SCALE)).collect())?;
    TernaryMatrix::from_rows(pool, rows, cols, scales, |scratch: &mut Vec<f32>, row, codes| {
        scratch.resize(cols, 0.0);
        let values = source.row(row, scratch);
        let first = spans::first_of_row(granularity, row, columns.len());
        for (fit, columns) in fits[first..].iter().zip(&columns) {
            let place = (row * cols + columns.start) as u64;
            fit.encode(rule, rounding, place, &values[columns.clone()], &mut codes[columns.clone()]);
        }
    })
}

/// What a rule measures.
#[derive(Debug, Clone, Copy, Default)]
struct Fit {
    scale: f32,
    /// [`TernaryRule::Threshold`]: what is not above it becomes 0. [`TernaryRule::Sign`]: the middle.
    cut: f32,
}

impl Fit {
    fn new(rule: TernaryRule, values: &[f32]) -> Self {
        let mean = sum_abs(values) / values.len() as f64;
        match rule {
            TernaryRule::Absmean => Self { scale: mean as f32, cut: 0.0 },
            TernaryRule::Absmedian => {
                let mut magnitudes: Vec<f32> = values.iter().map(|w| w.abs()).collect();
                Self { scale: quantile(&mut magnitudes, 0.5), cut: 0.0 }
            }
            TernaryRule::Threshold => {
                let cut = (0.7 * mean) as f32;
                let above = values.iter().map(|w| w.abs()).filter(|w| *w > cut);
                let (sum, count) = above.fold((0.0, 0), |(sum, count), w| (sum + f64::from(w), count + 1));
                Self { scale: (sum / f64::from(count.max(1))) as f32, cut }
            }
            TernaryRule::Sign => {
                let middle = values.iter().map(|w| f64::from(*w)).sum::<f64>() / values.len() as f64;
                Self { scale: mean as f32, cut: middle as f32 }
            }
        }
    }

    /// Codes `w + 1`.
    fn encode(self, rule: TernaryRule, rounding: Rounding, place: u64, w: &[f32], codes: &mut [u8]) {
        let (inverse, cut) = (1.0 / self.scale.max(MIN_SCALE), self.cut);
        let pairs = codes.iter_mut().zip(w);
        match (rule, rounding) {
            (TernaryRule::Sign, _) => pairs.for_each(|(code, w)| *code = 2 * u8::from(*w > cut)),
            (TernaryRule::Threshold, _) => {
                pairs.for_each(|(code, w)| *code = between(*w > cut, *w < -cut));
            }
            (_, Rounding::HalfEven) => ternary_codes(w, inverse, codes),
            (_, Rounding::HalfAway) => pairs.for_each(|(code, w)| {
                let x = w * inverse;
                *code = between(x >= 0.5, x <= -0.5);
            }),
            (_, Rounding::Stochastic { .. }) => {
                let mut rounded = vec![0; w.len()];
                rounding.round(place, (-1.0, 1.0), w.iter().map(|w| w * inverse), 0, &mut rounded);
                pairs.zip(&rounded).for_each(|((code, _), rounded)| *code = (rounded + 1) as u8);
            }
        }
    }
}

#[inline(always)]
fn between(is_above: bool, is_below: bool) -> u8 {
    1 + u8::from(is_above) - u8::from(is_below)
}

/// `mean|W|` of a matrix, without gathering it.
#[expect(unsafe_code, reason = "threads write disjoint sums")]
fn absmean(pool: &ThreadPool, rows: usize, cols: usize, source: &impl Rows) -> Result<Fit> {
    spans::check_shape(rows, cols, Granularity::Tensor)?;
    let mut sums = vec![0.0_f64; rows];
    let shared = DisjointSlice::new(&mut sums);
    pool.split(rows, 1, |range| {
        let mut scratch = vec![0.0; cols];
        for row in range {
            // SAFETY: each row belongs to one thread.
            unsafe { shared.write(row, sum_abs(source.row(row, &mut scratch))) };
        }
    });
    if let Some(row) = sums.iter().position(|sum| !sum.is_finite()) {
        return Err(Error::NotFinite { row });
    }
    let mean = sums.iter().sum::<f64>() / (rows as f64 * cols as f64);
    Ok(Fit { scale: mean as f32, cut: 0.0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantize_with(
        (rows, cols): (usize, usize),
        w: &[f32],
        threads: usize,
        options: TernaryOptions,
    ) -> Result<TernaryMatrix> {
        let pool = ThreadPool::new(threads).unwrap();
        let read_row = |row: usize, out: &mut [f32]| out.copy_from_slice(&w[row * cols..][..cols]);
        let matrix = quantize_weights_with(&pool, rows, cols, &options, read_row);
        if let (Ok(matrix), Ok(lent)) = (&matrix, quantize_matrix(&pool, w, cols, &options)) {
            assert_eq!((matrix.codes(), matrix.scales()), (lent.codes(), lent.scales()));
        }
        matrix
    }

    fn quantize(rows: usize, cols: usize, w: &[f32], threads: usize) -> Result<TernaryMatrix> {
        quantize_with((rows, cols), w, threads, TernaryOptions::default())
    }

    fn of(rule: TernaryRule) -> TernaryOptions {
        TernaryOptions { rule, ..TernaryOptions::default() }
    }

    #[test]
    fn follows_the_formula_by_hand() {
        // mean|W| = 1: 0.5 rounds to even (0), 1.5 to 2 and is clamped.
        let matrix = quantize(2, 2, &[0.5, -1.5, 1.75, -0.25], 1).unwrap();
        assert_eq!(matrix.scale(), 1.0);
        assert_eq!(matrix.codes(), [0, -1, 1, 0]);
        let away = TernaryOptions { rounding: Rounding::HalfAway, ..TernaryOptions::default() };
        assert_eq!(quantize_with((2, 2), &[0.5, -1.5, 1.75, -0.25], 1, away).unwrap().codes(), [1, -1, 1, 0]);
    }

    #[test]
    fn other_rules_follow_theirs_by_hand() {
        let w = [0.5, -1.5, 2.0, 0.0];
        let run = |rule| {
            let matrix = quantize_with((1, 4), &w, 1, of(rule)).unwrap();
            (matrix.codes(), matrix.scale())
        };
        // median|W| = 1.
        assert_eq!(run(TernaryRule::Absmedian), (vec![0, -1, 1, 0], 1.0));
        // mean|W| = 1, cut at 0.7, mean of 1.5 and 2.
        assert_eq!(run(TernaryRule::Threshold), (vec![0, -1, 1, 0], 1.75));
        // mean(W) = 0.25.
        assert_eq!(run(TernaryRule::Sign), (vec![1, -1, 1, -1], 1.0));
        let zeros = |rule| quantize_with((1, 4), &[0.0; 4], 1, of(rule)).unwrap();
        for rule in TernaryRule::ALL {
            assert_eq!(zeros(rule).scale(), MIN_SCALE);
        }
        assert_eq!(zeros(TernaryRule::Sign).codes(), [-1; 4]);
    }

    #[test]
    fn zeros_stay_zeros_and_nan_names_its_row() {
        let zeros = quantize(3, 2, &[0.0; 6], 1).unwrap();
        assert_eq!((zeros.codes(), zeros.scale()), (vec![0; 6], MIN_SCALE));
        for rule in TernaryRule::ALL {
            for granularity in [Granularity::Tensor, Granularity::Row, Granularity::Group(1)] {
                let options = TernaryOptions { granularity, ..of(rule) };
                let error = quantize_with((3, 1), &[0.0, 1.0, f32::NAN], 2, options).unwrap_err();
                assert_eq!(error, Error::NotFinite { row: 2 });
            }
        }
        assert!(quantize(0, 4, &[], 1).is_err());
        let pool = ThreadPool::new(1).unwrap();
        for (len, cols) in [(5, 2), (0, 2), (3, 0)] {
            let result = quantize_matrix(&pool, &vec![1.0; len], cols, &TernaryOptions::default());
            assert!(matches!(result, Err(Error::Length { .. })));
        }
        let no_columns = TernaryOptions { granularity: Granularity::Group(0), ..TernaryOptions::default() };
        assert!(quantize_with((1, 4), &[1.0; 4], 1, no_columns).is_err());
    }

    proptest! {
        #[test]
        fn equals_the_plain_rule_on_any_number_of_threads(
            (rows, cols, w) in (1_usize..14, 1_usize..20).prop_flat_map(|(rows, cols)| {
                (Just(rows), Just(cols), prop::collection::vec(-2.0_f32..2.0, rows * cols))
            }),
            threads in 1_usize..4,
        ) {
            let matrix = quantize(rows, cols, &w, threads).unwrap();
            let mean = w.iter().map(|w| f64::from(w.abs())).sum::<f64>() / w.len() as f64;
            prop_assert!((f64::from(matrix.scale()) - mean.max(1e-5)).abs() <= 1e-6 * mean);
            let inverse = 1.0 / matrix.scale();
            let codes: Vec<i8> =
                w.iter().map(|w| (w * inverse).round_ties_even().clamp(-1.0, 1.0) as i8).collect();
            prop_assert_eq!(matrix.codes(), codes);
        }

        #[test]
        fn a_row_or_group_is_a_matrix_of_its_own(
            (rows, cols, w) in (1_usize..9, 1_usize..20).prop_flat_map(|(rows, cols)| {
                (Just(rows), Just(cols), prop::collection::vec(-2.0_f32..2.0, rows * cols))
            }),
            group in 1_usize..8,
            rule in prop::sample::select(TernaryRule::ALL.to_vec()),
        ) {
            for (granularity, width) in [(Granularity::Row, cols), (Granularity::Group(group), group)] {
                let options = TernaryOptions { granularity, ..of(rule) };
                let matrix = quantize_with((rows, cols), &w, 2, options).unwrap();
                let spans = w.chunks(cols).flat_map(|row| row.chunks(width));
                let alone: Vec<_> = spans.map(|w| quantize_with((1, w.len()), w, 1, of(rule)).unwrap()).collect();
                let codes: Vec<i8> = alone.iter().flat_map(TernaryMatrix::codes).collect();
                let scales: Vec<f32> = alone.iter().map(TernaryMatrix::scale).collect();
                prop_assert_eq!(matrix.codes(), codes);
                prop_assert_eq!(matrix.scales().values(), scales);
            }
        }

        #[test]
        fn stochastic_rounding_does_not_depend_on_threads(seed: u64, threads in 2_usize..4) {
            let w: Vec<f32> = (0..35 * 40).map(|i| (i as f32 * 0.731).sin()).collect();
            let options =
                TernaryOptions { rounding: Rounding::Stochastic { seed }, ..TernaryOptions::default() };
            let one = quantize_with((35, 40), &w, 1, options).unwrap();
            prop_assert_eq!(quantize_with((35, 40), &w, threads, options).unwrap().codes(), one.codes());
        }
    }
}
