//! Elements at indices.

use bitnet_core::Tensor;

use super::Variable;
use super::floats::elements;
use crate::Result;

impl Variable {
    /// The slices at `indices` of dimension `axis`; one that is taken several times has the sum of its gradients.
    ///
    /// Errors: [`bitnet_core::Error::Axis`], [`bitnet_core::Error::Index`], [`bitnet_core::Error::DType`].
    pub fn take(&self, indices: &Tensor, axis: isize) -> Result<Self> {
        self.moved(|x| x.take(indices, axis))
    }

    /// `out[i, .., j, .., k] = x[i, .., indices[i, .., j, .., k], .., k]`, with the index in dimension `axis`.
    ///
    /// Errors: as [`Self::take`], and [`bitnet_core::Error::Shapes`].
    pub fn gather(&self, indices: &Tensor, axis: isize) -> Result<Self> {
        self.moved(|x| x.gather(indices, axis))
    }

    /// An operation that only copies elements: the same on their places says where each gradient belongs.
    fn moved(&self, operation: impl Fn(&Tensor) -> bitnet_core::Result<Tensor>) -> Result<Self> {
        let x = self.value();
        let y = operation(&x)?;
        if !self.wants_gradient() {
            return Self::constant(y);
        }
        let shape = x.shape().clone();
        let places = Tensor::from_vec((0..x.len() as i64).collect(), shape.clone())?;
        let places = operation(&places)?.to_vec::<i64>()?;
        Ok(Self::result(y, [self], move |dy, _| {
            let mut dx = vec![0.0; shape.elements()?];
            for (&place, dy) in places.iter().zip(&*elements(&dy)?) {
                dx[place as usize] += dy;
            }
            Ok([Some(Tensor::from_vec(dx, shape)?)])
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};
    use super::*;

    fn indices(values: &[i64], dims: &[usize]) -> Tensor {
        Tensor::from_vec(values.to_vec(), dims.to_vec()).unwrap()
    }

    #[test]
    fn an_element_collects_the_gradients_of_all_its_uses() {
        let x = || [(&[2, 4, 3][..], wave(24, 0.2))];
        check(
            &x(),
            |x| x[0].take(&indices(&[3, -4, 3], &[3]), 1),
            |x| (0..18).map(|i| x[0][i / 9 * 12 + [3, 0, 3][i / 3 % 3] * 3 + i % 3]).collect(),
        );
        check(
            &x(),
            |x| x[0].gather(&indices(&[1, 1, 0, -1], &[2, 1, 2]), 2),
            |x| (0..16).map(|i| x[0][i / 2 * 3 + [1, 1, 0, 2][i / 8 * 2 + i % 2]]).collect(),
        );
    }
}
