//! Other views of the same elements.

use bitnet_core::tensor::Slice;
use bitnet_core::{DType, Shape, Tensor};

use super::Variable;
use super::elementwise::sum_to;
use crate::Result;

impl Variable {
    /// The same elements in row-major order under other dimensions. Errors: [`bitnet_core::Error::Reshape`].
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        Ok(self.reshaped(self.value().reshape(shape)?))
    }

    /// With a new dimension of 1 at place `axis` of the result. Errors: [`bitnet_core::Error::Axis`].
    pub fn unsqueeze(&self, axis: isize) -> Result<Self> {
        Ok(self.reshaped(self.value().unsqueeze(axis)?))
    }

    /// Without dimension `axis`, which must be 1, or without all that are.
    ///
    /// Errors: [`bitnet_core::Error::Axis`], [`bitnet_core::Error::Reshape`].
    pub fn squeeze(&self, axis: Option<isize>) -> Result<Self> {
        Ok(self.reshaped(self.value().squeeze(axis)?))
    }

    /// In row-major order without gaps. Errors: [`bitnet_core::Error::OutOfMemory`].
    pub fn contiguous(&self) -> Result<Self> {
        Ok(self.reshaped(self.value().contiguous()?))
    }

    /// In memory of its own. Errors: [`bitnet_core::Error::OutOfMemory`].
    pub fn copied(&self) -> Result<Self> {
        Ok(self.reshaped(self.value().copied()?))
    }

    /// `y`, the same elements in the same order.
    fn reshaped(&self, y: Tensor) -> Self {
        let dims = self.dims();
        Self::result(y, [self], move |dy, _| Ok([Some(dy.reshape(dims)?)]))
    }

    /// Two dimensions exchanged. Errors: [`bitnet_core::Error::Axis`].
    pub fn swap_axes(&self, a: isize, b: isize) -> Result<Self> {
        let y = self.value().swap_axes(a, b)?;
        Ok(Self::result(y, [self], move |dy, _| Ok([Some(dy.swap_axes(a, b)?)])))
    }

    /// All dimensions in reverse order.
    pub fn transpose(&self) -> Result<Self> {
        let y = self.value().transpose()?;
        Ok(Self::result(y, [self], |dy, _| Ok([Some(dy.transpose()?)])))
    }

    /// The dimensions in another order: dimension `i` of the result is `axes[i]` of `x`.
    ///
    /// Errors: [`bitnet_core::Error::Axis`], [`bitnet_core::Error::RepeatedAxis`], [`bitnet_core::Error::Rank`].
    pub fn permute(&self, axes: &[isize]) -> Result<Self> {
        let y = self.value().permute(axes)?;
        let mut back = vec![0; axes.len()];
        for (place, axis) in axes.iter().enumerate() {
            back[axis.rem_euclid(axes.len() as isize) as usize] = place as isize;
        }
        Ok(Self::result(y, [self], move |dy, _| Ok([Some(dy.permute(&back)?)])))
    }

    /// Part of one dimension, in steps of 1.
    ///
    /// Errors: [`bitnet_core::Error::Axis`].
    pub fn slice(&self, axis: isize, range: std::ops::Range<usize>) -> Result<Self> {
        let x = self.value();
        let y = x.slice(axis, Slice::from(range.start as isize..range.end as isize))?;
        let dims = x.dims().to_vec();
        Ok(Self::result(y, [self], move |dy, _| {
            let at = axis.rem_euclid(dims.len() as isize) as usize;
            // Ranges are cut to what is there, as in NumPy.
            let start = range.start.min(dims[at]);
            let zeros = |len: usize| {
                let mut dims = dims.clone();
                dims[at] = len;
                Tensor::zeros(dims, DType::F32)
            };
            let (before, after) = (zeros(start)?, zeros(dims[at] - start - dy.dims()[at])?);
            Ok([Some(Tensor::concatenate(&[&before, &dy, &after], axis)?)])
        }))
    }

    /// One place of dimension `axis`, which goes; below 0 it counts from the end.
    ///
    /// Errors: [`bitnet_core::Error::Axis`], [`bitnet_core::Error::Index`].
    pub fn select(&self, axis: isize, index: i64) -> Result<Self> {
        let x = self.value();
        let y = x.select(axis, index)?;
        // Both are in range now.
        let at = axis.rem_euclid(x.rank() as isize);
        let index = index.rem_euclid(x.dims()[at as usize] as i64) as usize;
        Ok(self.slice(at, index..index + 1)?.reshaped(y))
    }

    /// Stretched to `shape`, as NumPy broadcasts. Errors: [`bitnet_core::Error::Shapes`].
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Result<Self> {
        let x = self.value();
        let dims = x.dims().to_vec();
        Ok(Self::result(x.broadcast_to(shape)?, [self], move |dy, _| Ok([Some(sum_to(&dy, &dims)?)])))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};

    #[test]
    fn views_give_their_gradients_back() {
        let x = || wave(24, 0.6);
        check(&[(&[2, 3, 4], x())], |x| x[0].reshape([6, 4]), |x| x[0].clone());
        check(
            &[(&[2, 3, 4], x())],
            |x| x[0].permute(&[2, 0, -2]),
            |x| (0..24).map(|i| x[0][i / 3 % 2 * 12 + i % 3 * 4 + i / 6]).collect(),
        );
        check(
            &[(&[2, 3, 4], x())],
            |x| x[0].unsqueeze(-1)?.squeeze(None)?.contiguous()?.copied(),
            |x| x[0].clone(),
        );
        let swapped = |x: &[Vec<f64>]| (0..24).map(|i| x[0][i % 2 * 12 + i / 2 % 3 * 4 + i / 6]).collect();
        check(&[(&[2, 3, 4], x())], |x| x[0].swap_axes(0, -1), swapped);
        check(&[(&[2, 3, 4], x())], |x| x[0].transpose(), swapped);
        for index in [1, -2] {
            check(
                &[(&[2, 3, 4], x())],
                |x| x[0].select(-2, index),
                |x| (0..24).filter(|i| i / 4 % 3 == 1).map(|i| x[0][i]).collect(),
            );
        }
        check(
            &[(&[2, 3, 4], x())],
            |x| x[0].slice(-1, 1..3),
            |x| (0..24).filter(|i| (1..3).contains(&(i % 4))).map(|i| x[0][i]).collect(),
        );
        check(
            &[(&[2, 3, 4], x())],
            |x| x[0].slice(1, 2..9),
            |x| (0..24).filter(|i| i / 4 % 3 == 2).map(|i| x[0][i]).collect(),
        );
        check(
            &[(&[3, 1], wave(3, 0.1))],
            |x| x[0].broadcast_to([2, 3, 2]),
            |x| (0..12).map(|i| x[0][i / 2 % 3]).collect(),
        );
    }
}
