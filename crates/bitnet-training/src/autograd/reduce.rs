//! Sums, means and extremes.

use bitnet_core::{DType, Tensor};

use super::Variable;
use crate::Result;

/// The dimensions of a reduction; none for all of them.
type Axes<'a> = Option<&'a [isize]>;

impl Variable {
    /// The sum along `axes`, added in float64. A reduced dimension goes, or stays as 1 with `keep_dims`.
    ///
    /// Errors: [`bitnet_core::Error::Axis`], [`bitnet_core::Error::RepeatedAxis`].
    pub fn sum(&self, axes: Axes<'_>, keep_dims: bool) -> Result<Self> {
        let y = self.value().sum(axes, true)?;
        self.reduced(&y, axes, keep_dims, 1.0)
    }

    /// The mean along `axes`, added in float64. Errors: as [`Self::sum`].
    pub fn mean(&self, axes: Axes<'_>, keep_dims: bool) -> Result<Self> {
        let x = self.value();
        let y = x.mean(axes, true)?;
        let share = y.len() as f32 / x.len() as f32;
        self.reduced(&y, axes, keep_dims, share)
    }

    /// The greatest element along `axes`; those that are equal to it share its gradient.
    ///
    /// Errors: as [`Self::sum`], and [`bitnet_core::Error::Empty`].
    pub fn max(&self, axes: Axes<'_>, keep_dims: bool) -> Result<Self> {
        self.extreme(self.value().max(axes, true)?, axes, keep_dims)
    }

    /// The least element along `axes`; those that are equal to it share its gradient. Errors: as [`Self::max`].
    pub fn min(&self, axes: Axes<'_>, keep_dims: bool) -> Result<Self> {
        self.extreme(self.value().min(axes, true)?, axes, keep_dims)
    }

    /// `y` with the reduced dimensions as 1; every element takes its share of the gradient.
    fn reduced(&self, y: &Tensor, axes: Axes<'_>, keep_dims: bool, share: f32) -> Result<Self> {
        let (dims, kept) = (self.dims(), y.dims().to_vec());
        let left = dims_left(&kept, axes, keep_dims);
        Ok(Self::result(y.reshape(left)?, [self], move |dy, _| {
            Ok([Some(dy.mul(share)?.reshape(kept)?.broadcast_to(dims)?)])
        }))
    }

    /// `y` with the reduced dimensions as 1, whose elements are some of `x`.
    fn extreme(&self, y: Tensor, axes: Axes<'_>, keep_dims: bool) -> Result<Self> {
        let x = self.value();
        let left = dims_left(y.dims(), axes, keep_dims);
        let axes = axes.map(<[isize]>::to_vec);
        Ok(Self::result(y.reshape(left)?, [self], move |dy, _| {
            let is_extreme = x.eq(&y)?.to_dtype(DType::F32)?;
            let share = dy.reshape(y.dims().to_vec())?.div(&is_extreme.sum(axes.as_deref(), true)?)?;
            Ok([Some(is_extreme.mul(&share)?)])
        }))
    }
}

/// Of the dimensions of a result whose reduced ones are 1, those that it is to have.
fn dims_left(kept: &[usize], axes: Axes<'_>, keep_dims: bool) -> Vec<usize> {
    let rank = kept.len().max(1) as isize;
    let is_reduced = |axis: usize| {
        axes.is_none_or(|axes| axes.iter().any(|named| named.rem_euclid(rank) == axis as isize))
    };
    (0..kept.len()).filter(|axis| keep_dims || !is_reduced(*axis)).map(|axis| kept[axis]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};
    use super::*;

    #[test]
    fn sums_and_means_along_dimensions() {
        let x = wave(24, 0.6);
        let all = |x: &[Vec<f64>]| vec![x[0].iter().sum::<f64>()];
        check(&[(&[2, 3, 4], x.clone())], |x| x[0].sum(None, false), all);
        check(&[(&[2, 3, 4], x.clone())], |x| x[0].mean(None, true), |x| vec![all(x)[0] / 24.0]);
        let along = |x: &[Vec<f64>]| -> Vec<f64> {
            (0..3).map(|j| (0..24).filter(|i| i / 4 % 3 == j).map(|i| x[0][i]).sum()).collect()
        };
        check(&[(&[2, 3, 4], x.clone())], |x| x[0].sum(Some(&[0, 2]), false), along);
        check(
            &[(&[2, 3, 4], x)],
            |x| x[0].mean(Some(&[-1, 0]), true),
            |x| along(x).iter().map(|sum| sum / 8.0).collect(),
        );
    }

    #[test]
    fn extremes_along_dimensions() {
        let x = wave(24, 0.6);
        let all = |x: &[Vec<f64>]| vec![x[0].iter().copied().fold(f64::INFINITY, f64::min)];
        check(&[(&[2, 3, 4], x.clone())], |x| x[0].min(None, false), all);
        check(
            &[(&[2, 3, 4], x)],
            |x| x[0].max(Some(&[0, -1]), false),
            |x| {
                let of = |j| (0..24).filter(move |i| i / 4 % 3 == j).map(|i| x[0][i]);
                (0..3).map(|j| of(j).fold(f64::NEG_INFINITY, f64::max)).collect()
            },
        );
        let ties = Variable::leaf(Tensor::from_vec(vec![1.0_f32, 3.0, 3.0, 2.0], [2, 2]).unwrap()).unwrap();
        ties.max(None, false).unwrap().backward().unwrap();
        assert_eq!(ties.gradient().unwrap().to_vec::<f32>().unwrap(), [0.0, 0.5, 0.5, 0.0]);
    }
}
