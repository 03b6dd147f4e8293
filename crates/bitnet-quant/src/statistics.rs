//! What activations look like, taken in as they come: for calibration.

use std::ops::Range;

use crate::{Error, Result};

/// Moments and a histogram of the values seen so far; memory does not grow with them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics {
    count: u64,
    zeros: u64,
    min: f32,
    max: f32,
    mean: f64,
    /// Sum of the squared distances from the mean.
    squares: f64,
    sum_abs: f64,
    histogram: Histogram,
}

impl Statistics {
    /// Takes values in. Nothing is taken when one is not finite.
    ///
    /// Errors: [`Error::NotFinite`] with the place of the first such value as its row.
    pub fn add(&mut self, values: &[f32]) -> Result<()> {
        if let Some(row) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFinite { row });
        }
        if values.is_empty() {
            return Ok(());
        }
        let count = values.len() as f64;
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
        let squares: f64 = values.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum();
        // Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
        let (before, all) = (self.count as f64, self.count as f64 + count);
        let shift = mean - self.mean;
        self.mean += shift * count / all;
        self.squares += squares + shift * shift * before * count / all;
        let first = if self.count == 0 { values[0] } else { self.min };
        self.min = values.iter().fold(first, |min, x| min.min(*x));
        let first = if self.count == 0 { values[0] } else { self.max };
        self.max = values.iter().fold(first, |max, x| max.max(*x));
        self.sum_abs += values.iter().map(|x| f64::from(x.abs())).sum::<f64>();
        self.zeros += values.iter().filter(|x| **x == 0.0).count() as u64;
        self.count += values.len() as u64;
        self.histogram.add(values);
        Ok(())
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Share of values that are 0.
    pub fn zero_share(&self) -> f64 {
        self.zeros as f64 / self.count.max(1) as f64
    }

    /// The least value; 0 of none.
    pub fn min(&self) -> f32 {
        self.min
    }

    /// The largest value; 0 of none.
    pub fn max(&self) -> f32 {
        self.max
    }

    /// `max|x|`.
    pub fn absmax(&self) -> f32 {
        self.max.max(-self.min)
    }

    /// The mean; 0 of none.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// `mean|x|`; 0 of none.
    pub fn absmean(&self) -> f64 {
        self.sum_abs / self.count.max(1) as f64
    }

    /// Standard deviation of the values themselves (divided by their number); 0 of none.
    pub fn std(&self) -> f64 {
        (self.squares / self.count.max(1) as f64).sqrt()
    }

    /// How often which magnitudes came.
    pub fn histogram(&self) -> &Histogram {
        &self.histogram
    }
}

/// Counts of `|x|` in bins whose width is an eighth of a power of two, so that the range need not be known before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// By exponent and the three highest bits of the fraction. Grown up to the largest magnitude.
    counts: Vec<u64>,
}

/// Bits of a float32 below those that choose the bin.
const SHIFT: u32 = 20;

impl Histogram {
    /// Finite values only.
    fn add(&mut self, values: &[f32]) {
        for value in values {
            let bin = (value.abs().to_bits() >> SHIFT) as usize;
            if bin >= self.counts.len() {
                self.counts.resize(bin + 1, 0);
            }
            self.counts[bin] += 1;
        }
    }

    /// The bins that are not empty, smallest first: `|x|` from the start, up to but without the end, and their number.
    pub fn bins(&self) -> impl Iterator<Item = (Range<f32>, u64)> + '_ {
        let edge = |bin: usize| f32::from_bits((bin as u32) << SHIFT);
        let bins = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        bins.map(move |(bin, count)| (edge(bin)..edge(bin + 1), *count))
    }

    /// About the magnitude that the share `q` of all values does not exceed: right up to the width of a bin, an eighth
    /// at most. 0 of none.
    ///
    /// Errors: [`Error::InvalidClip`] when `q` is not in 0..=1.
    pub fn quantile(&self, q: f64) -> Result<f32> {
        if !(0.0..=1.0).contains(&q) {
            return Err(Error::InvalidClip(q));
        }
        let mut left = q * self.counts.iter().sum::<u64>() as f64;
        let mut last = 0.0;
        for (range, count) in self.bins() {
            let count = count as f64;
            if left <= count {
                return Ok(range.start + (range.end.min(f32::MAX) - range.start) * (left / count) as f32);
            }
            left -= count;
            last = range.end.min(f32::MAX);
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_give_what_all_values_give(values in prop::collection::vec(-50.0_f32..80.0, 1..400), cut in 0_usize..400) {
            let mut pieces = Statistics::default();
            let (a, b) = values.split_at(cut.min(values.len()));
            pieces.add(a).unwrap();
            pieces.add(b).unwrap();
            let n = values.len() as f64;
            let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
            let variance = values.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
            prop_assert_eq!(pieces.count(), values.len() as u64);
            prop_assert!((pieces.mean() - mean).abs() < 1e-9);
            prop_assert!((pieces.std() - variance.sqrt()).abs() < 1e-9);
            prop_assert_eq!(pieces.min(), values.iter().copied().fold(f32::INFINITY, f32::min));
            prop_assert_eq!(pieces.absmax(), values.iter().fold(0.0, |max, x| x.abs().max(max)));
            prop_assert_eq!(pieces.histogram().bins().map(|(_, count)| count).sum::<u64>(), values.len() as u64);
            let mut sorted: Vec<f32> = values.iter().map(|x| x.abs()).collect();
            sorted.sort_by(f32::total_cmp);
            for q in [0.1, 0.5, 0.9, 0.99, 1.0] {
                let exact = sorted[((q * n).ceil() as usize).max(1) - 1];
                let estimate = pieces.histogram().quantile(q).unwrap();
                prop_assert!((estimate - exact).abs() <= 0.1251 * exact, "{} {} {}", q, estimate, exact);
            }
        }
    }

    #[test]
    fn zeros_are_counted_and_what_is_not_finite_is_refused() {
        let mut statistics = Statistics::default();
        statistics.add(&[0.0, -0.0, 3.0, -1.0]).unwrap();
        assert_eq!((statistics.zero_share(), statistics.absmean(), statistics.mean()), (0.5, 1.0, 0.5));
        let before = statistics.clone();
        assert_eq!(statistics.add(&[1.0, f32::NAN]), Err(Error::NotFinite { row: 1 }));
        assert_eq!(statistics, before);
        assert!(statistics.histogram().quantile(1.5).is_err());
        assert_eq!(Statistics::default().histogram().quantile(0.5), Ok(0.0));
    }
}
