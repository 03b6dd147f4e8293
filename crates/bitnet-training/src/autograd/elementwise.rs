//! Arithmetic and functions of single elements, with NumPy's broadcasting.

use bitnet_core::{DType, Tensor};

use super::Variable;
use crate::Result;

impl Variable {
    /// `a + b`. Errors: [`bitnet_core::Error::Shapes`] when the shapes do not broadcast.
    pub fn add(&self, other: &Self) -> Result<Self> {
        let (a, b) = (self.value(), other.value());
        let (a_dims, b_dims) = (self.dims(), other.dims());
        Ok(Self::result(a.add(&b)?, [self, other], move |dy, [a, b]| {
            Ok([wanted(a, || sum_to(&dy, &a_dims))?, wanted(b, || sum_to(&dy, &b_dims))?])
        }))
    }

    /// `a - b`. Errors: as [`Self::add`].
    pub fn sub(&self, other: &Self) -> Result<Self> {
        let (a, b) = (self.value(), other.value());
        let (a_dims, b_dims) = (self.dims(), other.dims());
        Ok(Self::result(a.sub(&b)?, [self, other], move |dy, [a, b]| {
            Ok([wanted(a, || sum_to(&dy, &a_dims))?, wanted(b, || sum_to(&dy.neg()?, &b_dims))?])
        }))
    }

    /// `a b`, element by element. Errors: as [`Self::add`].
    pub fn mul(&self, other: &Self) -> Result<Self> {
        let (a, b) = (self.value(), other.value());
        Ok(Self::result(a.mul(&b)?, [self, other], move |dy, [wants_a, wants_b]| {
            Ok([
                wanted(wants_a, || sum_to(&dy.mul(&b)?, a.dims()))?,
                wanted(wants_b, || sum_to(&dy.mul(&a)?, b.dims()))?,
            ])
        }))
    }

    /// `a / b`. Errors: as [`Self::add`].
    pub fn div(&self, other: &Self) -> Result<Self> {
        let (a, b) = (self.value(), other.value());
        Ok(Self::result(a.div(&b)?, [self, other], move |dy, [wants_a, wants_b]| {
            let da = dy.div(&b)?;
            Ok([
                wanted(wants_a, || sum_to(&da, a.dims()))?,
                wanted(wants_b, || sum_to(&da.mul(&a)?.div(&b)?.neg()?, b.dims()))?,
            ])
        }))
    }

    /// `factor x`.
    pub fn scaled(&self, factor: f32) -> Result<Self> {
        Ok(Self::result(self.value().mul(factor)?, [self], move |dy, _| Ok([Some(dy.mul(factor)?)])))
    }

    /// `x + term`.
    pub fn shifted(&self, term: f32) -> Result<Self> {
        Ok(Self::result(self.value().add(term)?, [self], |dy, _| Ok([Some(dy)])))
    }

    /// `x^exponent`.
    pub fn pow(&self, exponent: f32) -> Result<Self> {
        let x = self.value();
        Ok(Self::result(x.pow(exponent)?, [self], move |dy, _| {
            Ok([Some(x.pow(exponent - 1.0)?.mul(exponent)?.mul(&dy)?)])
        }))
    }

    /// `a^b`, element by element. The gradient of `b` is NaN where `a` is below 0, and 0 where `a` is 0 and `b` is not
    /// below 0.
    ///
    /// Errors: as [`Self::add`].
    pub fn power(&self, exponent: &Self) -> Result<Self> {
        let (a, b) = (self.value(), exponent.value());
        let y = a.pow(&b)?;
        Ok(Self::result(y.clone(), [self, exponent], move |dy, [wants_a, wants_b]| {
            Ok([
                wanted(wants_a, || {
                    // `x^0` is 1 everywhere, and `b a^(b - 1)` is 0 times infinity at 0.
                    let slope = a.pow(&b.sub(1.0)?)?.mul(&b)?;
                    let slope = Tensor::choose(&b.eq(0.0)?, &Tensor::zeros([], DType::F32)?, &slope)?;
                    sum_to(&slope.mul(&dy)?, a.dims())
                })?,
                wanted(wants_b, || {
                    let is_flat = a.eq(0.0)?.mul(&b.ge(0.0)?)?;
                    let slope = y.mul(&a.log()?)?;
                    let slope = Tensor::choose(&is_flat, &Tensor::zeros([], DType::F32)?, &slope)?;
                    sum_to(&slope.mul(&dy)?, b.dims())
                })?,
            ])
        }))
    }
}

/// Declares functions of one element, whose gradient follows from the gradient `dy` of the result, `x` and `y`.
macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident = |$dy:ident, $x:pat_param, $y:pat_param| $gradient:expr;)*) => {
        impl Variable {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> Result<Self> {
                    let gradient = |$dy: &Tensor, $x: &Tensor, $y: &Tensor| $gradient;
                    let x = self.value();
                    let y = x.$name()?;
                    Ok(Self::result(y.clone(), [self], move |dy, _| Ok([Some(gradient(&dy, &x, &y)?)])))
                }
            )*
        }
    };
}

functions! {
    /// `-x`.
    neg = |dy, _, _| dy.neg();
    /// `e^x`.
    exp = |dy, _, y| dy.mul(y);
    /// The natural logarithm.
    log = |dy, x, _| dy.div(x);
    /// The square root.
    sqrt = |dy, _, y| dy.div(&y.mul(2.0)?);
    /// `1 / sqrt(x)`.
    rsqrt = |dy, x, y| dy.mul(y)?.div(&x.mul(-2.0)?);
    /// The sine.
    sin = |dy, x, _| dy.mul(&x.cos()?);
    /// The cosine.
    cos = |dy, x, _| dy.mul(&x.sin()?)?.neg();
    /// The hyperbolic tangent.
    tanh = |dy, _, y| dy.mul(&y.mul(y)?.neg()?.add(1.0)?);
    /// `1 / (1 + e^-x)`.
    sigmoid = |dy, _, y| dy.mul(&y.mul(&y.neg()?.add(1.0)?)?);
    /// `|x|`; its derivative at 0 is 0.
    abs = |dy, x, _| dy.mul(&x.gt(0.0)?)?.sub(&dy.mul(&x.lt(0.0)?)?);
    /// `max(x, 0)`; its derivative at 0 is 0.
    relu = |dy, x, _| dy.mul(&x.gt(0.0)?);
}

/// The gradient, where it is wanted.
pub(super) fn wanted(wanted: bool, gradient: impl FnOnce() -> Result<Tensor>) -> Result<Option<Tensor>> {
    wanted.then(gradient).transpose()
}

/// The gradient of a tensor of `dims` that was broadcast: summed along what was stretched.
pub(super) fn sum_to(gradient: &Tensor, dims: &[usize]) -> Result<Tensor> {
    if gradient.dims() == dims {
        return Ok(gradient.clone());
    }
    let new = gradient.rank() - dims.len();
    let is_stretched = |axis: &usize| *axis < new || dims[axis - new] != gradient.dims()[*axis];
    let axes: Vec<isize> = (0..gradient.rank()).filter(is_stretched).map(|axis| axis as isize).collect();
    Ok(gradient.sum(Some(&axes), true)?.reshape(dims)?)
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};
    use super::*;

    #[test]
    fn arithmetic_with_broadcasting() {
        type Case = (fn(&Variable, &Variable) -> Result<Variable>, fn(f64, f64) -> f64);
        let cases: [Case; 4] = [
            (Variable::add, |a, b| a + b),
            (Variable::sub, |a, b| a - b),
            (Variable::mul, |a, b| a * b),
            (Variable::div, |a, b| a / b),
        ];
        for (op, exact) in cases {
            // [2, 1, 3] beside [4, 1]: both are stretched, to [2, 4, 3].
            let b = wave(4, 0.4).iter().map(|x| x + 2.0).collect();
            check(
                &[(&[2, 1, 3], wave(6, 0.1)), (&[4, 1], b)],
                |x| op(&x[0], &x[1]),
                |x| {
                    let index = (0..24).map(|i| (i / 12, i / 3 % 4, i % 3));
                    index.map(|(i, j, k)| exact(x[0][i * 3 + k], x[1][j])).collect()
                },
            );
        }
    }

    #[test]
    fn powers_with_an_exponent_that_is_learned() {
        let base = wave(6, 0.1).iter().map(|x| x.abs() + 0.3).collect();
        check(
            &[(&[2, 3], base), (&[3], wave(3, 0.4))],
            |x| x[0].power(&x[1]),
            |x| (0..6).map(|i| x[0][i].powf(x[1][i % 3])).collect(),
        );
        let leaf = |x: f32| Variable::leaf(Tensor::from_vec(vec![x], [1]).unwrap()).unwrap();
        let (base, exponent) = (leaf(0.0), leaf(2.0));
        base.power(&exponent).unwrap().backward().unwrap();
        assert_eq!(exponent.gradient().unwrap().to_vec::<f32>().unwrap(), [0.0]);
    }

    #[test]
    fn functions_of_one_element() {
        type Case = (fn(&Variable) -> Result<Variable>, fn(f64) -> f64);
        let cases: [Case; 14] = [
            (Variable::neg, |x| -x),
            (Variable::exp, f64::exp),
            (Variable::log, f64::ln),
            (Variable::sqrt, f64::sqrt),
            (Variable::rsqrt, |x| 1.0 / x.sqrt()),
            (Variable::sin, f64::sin),
            (Variable::cos, f64::cos),
            (Variable::tanh, f64::tanh),
            (Variable::sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
            (|x| x.shifted(-1.0)?.abs(), |x| (x - 1.0).abs()),
            (|x| x.shifted(-1.0)?.relu(), |x| (x - 1.0).max(0.0)),
            (|x| x.scaled(-1.5), |x| x * -1.5),
            (|x| x.shifted(0.25), |x| x + 0.25),
            (|x| x.pow(2.5), |x| x.powf(2.5)),
        ];
        for (op, exact) in cases {
            let x = wave(15, 0.3).iter().map(|x| x.abs() + 0.3).collect();
            check(&[(&[3, 5], x)], |x| op(&x[0]), |x| x[0].iter().map(|&x| exact(x)).collect());
        }
    }
}
