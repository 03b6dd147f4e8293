//! Comparison, choice, and the bounds of a range.

use crate::{DType, Result, Tensor};

use super::element::dispatch;
use super::elementwise::{choose, map, zip};
use super::layout::broadcast_shapes;
use super::{Bool, Element, Operand};

/// Declares the comparisons, which differ in an operator.
macro_rules! comparisons {
    ($($(#[$doc:meta])* $name:ident $operator:tt;)*) => {
        impl Tensor {
            $(
                $(#[$doc])*
                /// A number may lie outside the range of the type. Types are promoted first.
                ///
                /// Errors: [`Error::Shapes`](crate::Error::Shapes) when the shapes do not broadcast,
                /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
                pub fn $name<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Self> {
                    let (a, b) = self.with_common_dtype(&other.into().compared_with(self.dtype())?)?;
                    dispatch!(a.dtype(), T => zip(&a, &b, |a: T, b: T| Bool::from(a $operator b)))
                }
            )*
        }
    };
}

comparisons! {
    /// Whether `a = b`: `bool`.
    eq ==;
    /// Whether `a != b`: `bool`, true for NaN.
    ne !=;
    /// Whether `a < b`: `bool`.
    lt <;
    /// Whether `a <= b`: `bool`.
    le <=;
    /// Whether `a > b`: `bool`.
    gt >;
    /// Whether `a >= b`: `bool`.
    ge >=;
}

impl Tensor {
    /// Whether an element is NaN: `bool`. Errors: [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn is_nan(&self) -> Result<Self> {
        dispatch!(self.dtype(), T => map(self, |x: T| Bool::from(x.is_nan())))
    }

    /// Elements of `a` where `condition` is not 0, of `b` elsewhere; all three broadcast, `a` and `b` are promoted.
    ///
    /// Errors: [`Error::Shapes`](crate::Error::Shapes), [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn choose(condition: &Self, a: &Self, b: &Self) -> Result<Self> {
        let (a, b) = a.with_common_dtype(b)?;
        let shape = broadcast_shapes(condition.shape(), &broadcast_shapes(a.shape(), b.shape())?)?;
        let condition = condition.to_dtype(DType::Bool)?.broadcast_to(shape.clone())?;
        let (a, b) = (a.broadcast_to(shape.clone())?, b.broadcast_to(shape)?);
        dispatch!(a.dtype(), T => choose::<T>(&condition, &a, &b))
    }
}
