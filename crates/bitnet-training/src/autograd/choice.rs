//! One value out of several. Where they are equal, each has an equal part of the gradient.

use bitnet_core::{DType, Tensor};

use super::Variable;
use super::elementwise::{sum_to, wanted};
use crate::Result;

impl Variable {
    /// `a` where `condition` is not 0, `b` elsewhere; all three broadcast.
    ///
    /// Errors: [`bitnet_core::Error::Shapes`] when the shapes do not broadcast.
    pub fn choose(condition: &Tensor, a: &Self, b: &Self) -> Result<Self> {
        let condition = condition.to_dtype(DType::Bool)?;
        let y = Tensor::choose(&condition, &a.value(), &b.value())?;
        let (a_dims, b_dims) = (a.dims(), b.dims());
        Ok(Self::result(y, [a, b], move |dy, [wants_a, wants_b]| {
            // Not a product with the condition: what was not chosen may be infinite.
            let zero = Tensor::zeros([], DType::F32)?;
            Ok([
                wanted(wants_a, || sum_to(&Tensor::choose(&condition, &dy, &zero)?, &a_dims))?,
                wanted(wants_b, || sum_to(&Tensor::choose(&condition, &zero, &dy)?, &b_dims))?,
            ])
        }))
    }

    /// `max(a, b)`, element by element. Errors: as [`Self::add`].
    pub fn maximum(&self, other: &Self) -> Result<Self> {
        Ok(self.either(other, self.value().maximum(&other.value())?))
    }

    /// `min(a, b)`, element by element. Errors: as [`Self::add`].
    pub fn minimum(&self, other: &Self) -> Result<Self> {
        Ok(self.either(other, self.value().minimum(&other.value())?))
    }

    /// `y`, whose every element is that of `self` or of `other`.
    fn either(&self, other: &Self, y: Tensor) -> Self {
        let (a, b, chosen) = (self.value(), other.value(), y.clone());
        Self::result(y, [self, other], move |dy, [wants_a, wants_b]| {
            let tie = a.eq(&b)?.mul(0.5_f32)?;
            let share = |x: &Tensor| sum_to(&dy.mul(&x.eq(&chosen)?.sub(&tie)?)?, x.dims());
            Ok([wanted(wants_a, || share(&a))?, wanted(wants_b, || share(&b))?])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};
    use super::*;

    fn gradients(x: &[&Variable]) -> Vec<Vec<f32>> {
        x.iter().map(|x| x.gradient().unwrap().to_vec().unwrap()).collect()
    }

    #[test]
    fn the_chosen_one_has_the_gradient() {
        let inputs = || [(&[2, 1, 3][..], wave(6, 0.1)), (&[4, 1][..], wave(4, 0.7))];
        let exact = |f: fn(f64, f64) -> f64| {
            move |x: &[Vec<f64>]| (0..24).map(|i| f(x[0][i / 12 * 3 + i % 3], x[1][i / 3 % 4])).collect()
        };
        check(&inputs(), |x| x[0].maximum(&x[1]), exact(f64::max));
        check(&inputs(), |x| x[0].minimum(&x[1]), exact(f64::min));
        let condition = Tensor::from_vec(vec![0_u8, 1, 3, 0], [4, 1]).unwrap();
        check(
            &inputs(),
            |x| Variable::choose(&condition, &x[0], &x[1]),
            |x| {
                let is_first = |i: usize| matches!(i / 3 % 4, 1 | 2);
                let value = |i: usize| if is_first(i) { x[0][i / 12 * 3 + i % 3] } else { x[1][i / 3 % 4] };
                (0..24).map(value).collect()
            },
        );
    }

    #[test]
    fn bounds_take_the_gradient_of_what_they_cut() {
        let bounds = || [(&[24][..], wave(24, 0.3)), (&[1][..], vec![-0.6]), (&[1][..], vec![0.8])];
        let exact = |x: &[Vec<f64>]| x[0].iter().map(|v| v.max(x[1][0]).min(x[2][0])).collect();
        check(&bounds(), |x| x[0].maximum(&x[1])?.minimum(&x[2]), exact);
    }

    #[test]
    fn equal_values_share_the_gradient() {
        let leaf = |x: f32| Variable::leaf(Tensor::from_vec(vec![x], [1]).unwrap()).unwrap();
        let (a, b) = (leaf(2.0), leaf(2.0));
        a.maximum(&b).unwrap().backward().unwrap();
        a.minimum(&b).unwrap().backward().unwrap();
        assert_eq!(gradients(&[&a, &b]), [[1.0], [1.0]]);
    }

    #[test]
    fn what_was_not_chosen_has_no_gradient_even_where_it_is_infinite() {
        let x = Variable::leaf(Tensor::from_vec(vec![0.0_f32, 4.0], [2]).unwrap()).unwrap();
        let one = Variable::constant(Tensor::ones([], DType::F32).unwrap()).unwrap();
        let y = Variable::choose(&x.value().gt(0.0).unwrap(), &x.rsqrt().unwrap(), &one).unwrap();
        assert_eq!(y.value().to_vec::<f32>().unwrap(), [1.0, 0.5]);
    }
}
