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
        let indices = indices.clone();
        self.moved(move |x| x.take(&indices, axis))
    }

    /// `out[i, .., j, .., k] = x[i, .., indices[i, .., j, .., k], .., k]`, with the index in dimension `axis`.
    ///
    /// Errors: as [`Self::take`], and [`bitnet_core::Error::Shapes`].
    pub fn gather(&self, indices: &Tensor, axis: isize) -> Result<Self> {
        let indices = indices.clone();
        self.moved(move |x| x.gather(&indices, axis))
    }

    /// An operation that only copies elements: the same on their places says where each gradient belongs.
    fn moved(
        &self,
        operation: impl Fn(&Tensor) -> bitnet_core::Result<Tensor> + Send + 'static,
    ) -> Result<Self> {
        let x = self.value();
        let (y, shape) = (operation(&x)?, x.shape().clone());
        Ok(Self::result(y, [self], move |dy, _| {
            let len = shape.elements()?;
            let places = Tensor::from_vec((0..len as i64).collect(), shape.clone())?;
            let places = operation(&places)?.to_vec::<i64>()?;
            let mut dx = vec![0.0; len];
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
