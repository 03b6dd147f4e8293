//! What shares a scale, one after another: a matrix, its rows, or groups of their columns.

use std::ops::Range;

use bitnet_core::{DisjointSlice, Shape, ThreadPool};

use crate::rows::Rows;
use crate::{Error, Granularity, Result};

/// `fit(values)` of everything that shares a scale, in the order of rows and columns. For one scale of all, the values are
/// gathered first.
///
/// Errors: [`Error::Length`] for an empty matrix or groups of no columns, [`Error::NotFinite`] names the first row with
/// an infinity or NaN, [`Error::Core`] for a shape beyond memory.
#[expect(unsafe_code, reason = "threads write disjoint results")]
pub(crate) fn fit<T: Clone + Default + Send>(
    pool: &ThreadPool,
    (rows, cols): (usize, usize),
    granularity: Granularity,
    source: &impl Rows,
    fit: impl Fn(&[f32]) -> T + Sync,
) -> Result<Vec<T>> {
    check_shape(rows, cols, granularity)?;
    let row_len = if granularity == Granularity::Tensor { cols } else { 0 };
    let mut gathered = vec![0.0; rows * row_len];
    let spans = columns(granularity, cols);
    let per_row = if granularity == Granularity::Tensor { 0 } else { spans.len() };
    let mut fits = vec![T::default(); rows * per_row];
    let mut is_finite = vec![true; rows];
    {
        let (gathered, fits) = (DisjointSlice::new(&mut gathered), DisjointSlice::new(&mut fits));
        let is_finite = DisjointSlice::new(&mut is_finite);
        pool.split(rows, 1, |range| {
            let mut scratch = vec![0.0; cols];
            for row in range {
                // SAFETY: each row belongs to one thread.
                let (gathered, fits) = unsafe {
                    (
                        gathered.part(row * row_len..(row + 1) * row_len),
                        fits.part(row * per_row..(row + 1) * per_row),
                    )
                };
                let values = source.row(row, &mut scratch);
                gathered.copy_from_slice(&values[..row_len]);
                for (out, columns) in fits.iter_mut().zip(&spans) {
                    *out = fit(&values[columns.clone()]);
                }
                // SAFETY: as above.
                unsafe { is_finite.write(row, values.iter().all(|value| value.is_finite())) };
            }
        });
    }
    match is_finite.iter().position(|is_finite| !is_finite) {
        Some(row) => Err(Error::NotFinite { row }),
        None if granularity == Granularity::Tensor => Ok(vec![fit(&gathered)]),
        None => Ok(fits),
    }
}

/// The columns of each scale of a row.
pub(crate) fn columns(granularity: Granularity, cols: usize) -> Vec<Range<usize>> {
    let width = match granularity {
        Granularity::Tensor | Granularity::Row => cols,
        Granularity::Group(width) => width,
    };
    (0..cols).step_by(width.max(1)).map(|start| start..(start + width).min(cols)).collect()
}

/// Where the scale of the first columns of a row is.
pub(crate) fn first_of_row(granularity: Granularity, row: usize, spans: usize) -> usize {
    if granularity == Granularity::Tensor { 0 } else { row * spans }
}

pub(crate) fn check_shape(rows: usize, cols: usize, granularity: Granularity) -> Result<()> {
    let at_least_one = |what| Err(Error::Length { what, expected: 1, got: 0 });
    if Shape::from([rows, cols]).elements()? == 0 {
        return at_least_one("elements");
    }
    if granularity == Granularity::Group(0) {
        return at_least_one("columns of a group, at least");
    }
    Ok(())
}

/// The smallest value with the share `q` of all at or below it, between two neighbours in proportion: the linear
/// rule of NumPy. `q` is in 0..=1, `values` not empty; their order changes.
pub(crate) fn quantile(values: &mut [f32], q: f64) -> f32 {
    let place = q * (values.len() - 1) as f64;
    let below = place.floor() as usize;
    let (_, &mut low, above) = values.select_nth_unstable_by(below, f32::total_cmp);
    let high = above.iter().copied().min_by(f32::total_cmp).unwrap_or(low);
    (f64::from(low) + (f64::from(high) - f64::from(low)) * (place - below as f64)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_by_hand() {
        let quantile = |values: &[f32], q| quantile(&mut values.to_vec(), q);
        assert_eq!(quantile(&[4.0, 1.0, 3.0, 2.0], 0.5), 2.5);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 1.0), 3.0);
        assert_eq!(quantile(&[7.0], 0.3), 7.0);
        assert_eq!(quantile(&[10.0, 0.0], 0.25), 2.5);
    }

    #[test]
    fn every_granularity_sees_its_values() {
        let pool = ThreadPool::new(2).unwrap();
        let w: Vec<f32> = (0..15).map(|i| i as f32).collect();
        let read = |row: usize, out: &mut [f32]| out.copy_from_slice(&w[row * 5..][..5]);
        let sums = |granularity| {
            fit(&pool, (3, 5), granularity, &read, |values| values.iter().sum::<f32>()).unwrap()
        };
        assert_eq!(sums(Granularity::Tensor), [105.0]);
        assert_eq!(sums(Granularity::Row), [10.0, 35.0, 60.0]);
        assert_eq!(sums(Granularity::Group(3)), [3.0, 7.0, 18.0, 17.0, 33.0, 27.0]);
    }
}
