//! Sums and means.

use bitnet_core::Tensor;

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

    /// `y` with the reduced dimensions as 1; every element takes its share of the gradient.
    fn reduced(&self, y: &Tensor, axes: Axes<'_>, keep_dims: bool, share: f32) -> Result<Self> {
        let (dims, kept) = (self.dims(), y.dims().to_vec());
        let is_reduced = |axis: usize| {
            let rank = dims.len() as isize;
            axes.is_none_or(|axes| axes.iter().any(|named| named.rem_euclid(rank.max(1)) == axis as isize))
        };
        let left: Vec<usize> =
            (0..kept.len()).filter(|axis| keep_dims || !is_reduced(*axis)).map(|axis| kept[axis]).collect();
        Ok(Self::result(y.reshape(left)?, [self], move |dy, _| {
            Ok([Some(dy.mul(share)?.reshape(kept)?.broadcast_to(dims)?)])
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};

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
}
