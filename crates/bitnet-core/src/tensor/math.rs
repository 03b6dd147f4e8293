//! Functions of one element.

use crate::{DType, Error, Result, Tensor};

use super::arithmetic::Arithmetic;
use super::element::{dispatch, dispatch_float};
use super::elementwise::map;
use super::promote::to_float;
use super::{Bool, Element};

/// Declares functions of a real number: of floats in their own type, computed in float32, of all others in `f32`.
macro_rules! real_functions {
    ($($(#[$doc:meta])* $name:ident = $function:expr;)*) => {
        impl Tensor {
            $(
                $(#[$doc])*
                /// Floats keep their type, computed in float32; all others give `f32`.
                ///
                /// Errors: [`Error::OutOfMemory`].
                pub fn $name(&self) -> Result<Self> {
                    self.map_real($function)
                }
            )*
        }
    };
}

real_functions! {
    /// `e^x`.
    exp = f32::exp;
    /// The natural logarithm.
    log = f32::ln;
    /// The square root.
    sqrt = f32::sqrt;
    /// `1 / sqrt(x)`.
    rsqrt = |x: f32| 1.0 / x.sqrt();
    /// The sine.
    sin = f32::sin;
    /// The cosine.
    cos = f32::cos;
    /// The hyperbolic tangent.
    tanh = f32::tanh;
    /// `1 / (1 + e^-x)`.
    sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    /// `x / (1 + e^-x)`.
    silu = |x: f32| {
        // Where e^-x is too large for a float32, 1 is nothing beside it.
        if x < -88.0 { x * x.exp() } else { x / (1.0 + (-x).exp()) }
    };
}

impl Tensor {
    fn map_real(&self, f: impl Fn(f32) -> f32 + Sync) -> Result<Self> {
        let x = self.to_dtype(to_float(self.dtype()))?;
        dispatch_float!(x.dtype(), T => map(&x, |x: T| T::from_f32(f(x.to_f32()))))
    }

    /// `-x`. Integers wrap. Errors: [`Error::Unsupported`] for truth values, [`Error::OutOfMemory`].
    pub fn neg(&self) -> Result<Self> {
        self.not_bool("-", "use ~")?;
        if self.dtype().is_float() {
            return self.map_real(|x| -x);
        }
        dispatch!(self.dtype(), T => map(self, |x: T| T::default().minus(x)))
    }

    /// `|x|`. Integers wrap. Errors: [`Error::OutOfMemory`].
    pub fn abs(&self) -> Result<Self> {
        if self.dtype().is_float() {
            return self.map_real(f32::abs);
        }
        dispatch!(self.dtype(), T => map(self, |x: T| if x < T::default() { T::default().minus(x) } else { x }))
    }

    /// `max(x, 0)`; NaN stays. Errors: [`Error::OutOfMemory`].
    pub fn relu(&self) -> Result<Self> {
        dispatch!(self.dtype(), T => map(self, |x: T| if x < T::default() { T::default() } else { x }))
    }

    /// The nearest integer, the even one of two; integers stay. Errors: [`Error::OutOfMemory`].
    pub fn round(&self) -> Result<Self> {
        if self.dtype().is_float() { self.map_real(f32::round_ties_even) } else { Ok(self.clone()) }
    }

    /// Every bit turned over; of truth values, "not".
    ///
    /// Errors: [`Error::Unsupported`] for floats, [`Error::OutOfMemory`].
    pub fn not(&self) -> Result<Self> {
        if self.dtype() == DType::Bool {
            return map(self, |x: Bool| Bool::from(!x.get()));
        }
        if self.dtype().is_float() {
            let instead = "it is for integers and bool";
            return Err(Error::Unsupported { operation: "~", dtype: self.dtype(), instead });
        }
        dispatch!(self.dtype(), T => map(self, |x: T| T::from_i64(!x.to_i64())))
    }
}
