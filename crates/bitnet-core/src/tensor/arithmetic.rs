//! Arithmetic of two tensors, or of a tensor and a number, with broadcasting and promotion.

use half::{bf16, f16};

use crate::{DType, Error, Result, Tensor};

use super::element::{dispatch, dispatch_float};
use super::elementwise::zip;
use super::promote::to_float;
use super::{Bool, Element, Operand, Scalar, promote};

impl Tensor {
    /// `a + b`. Integers wrap; of truth values it is "or".
    ///
    /// Errors: [`Error::Shapes`] when the shapes do not broadcast, [`Error::OutOfRange`] for a number that the type does
    /// not hold, [`Error::OutOfMemory`].
    pub fn add<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Self> {
        let (a, b) = self.beside(other)?;
        dispatch!(a.dtype, T => zip(&a, &b, T::plus))
    }

    /// `a - b`. Integers wrap. Errors: as [`Self::add`], and [`Error::Unsupported`] for truth values.
    pub fn sub<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Self> {
        let (a, b) = self.beside(other)?;
        a.not_bool("-", "use ^")?;
        dispatch!(a.dtype, T => zip(&a, &b, T::minus))
    }

    /// `a b`, element by element. Integers wrap; of truth values it is "and". Errors: as [`Self::add`].
    pub fn mul<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Self> {
        let (a, b) = self.beside(other)?;
        dispatch!(a.dtype, T => zip(&a, &b, T::times))
    }

    /// `a / b` as floats; integers give `f32`. Errors: as [`Self::add`].
    pub fn div<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Self> {
        let (a, b) = self.beside(other)?;
        let dtype = to_float(a.dtype);
        let (a, b) = (a.to_dtype(dtype)?, b.to_dtype(dtype)?);
        dispatch_float!(dtype, T => zip(&a, &b, |a: T, b: T| T::from_f32(a.to_f32() / b.to_f32())))
    }

    /// `floor(a / b)`; an integer divided by 0 is 0. Errors: as [`Self::sub`].
    pub fn floor_div<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Self> {
        let (a, b) = self.beside(other)?;
        a.not_bool("//", "convert it to an integer type")?;
        dispatch!(a.dtype, T => zip(&a, &b, T::floored))
    }

    /// `a - floor(a / b) b`, with the sign of `b`; of an integer and 0 it is 0. Errors: as [`Self::sub`].
    pub fn rem<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Self> {
        let (a, b) = self.beside(other)?;
        a.not_bool("%", "convert it to an integer type")?;
        dispatch!(a.dtype, T => zip(&a, &b, T::modulo))
    }

    /// `a^b`. Integers wrap.
    ///
    /// Errors: as [`Self::sub`], and [`Error::NegativePower`] for an integer to a negative one.
    pub fn pow<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Self> {
        let (a, b) = self.beside(other)?;
        a.not_bool("**", "convert it to an integer type")?;
        if !b.dtype.is_float() && b.lt(0)?.any(None, false)?.item()? == Scalar::Bool(true) {
            return Err(Error::NegativePower);
        }
        dispatch!(a.dtype, T => zip(&a, &b, T::power))
    }

    /// The greater of two; NaN where one is. Errors: as [`Self::add`].
    pub fn maximum<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Self> {
        let (a, b) = self.beside(other)?;
        dispatch!(a.dtype, T => zip(&a, &b, |a: T, b: T| if a >= b || a.is_nan() { a } else { b }))
    }

    /// The lesser of two; NaN where one is. Errors: as [`Self::add`].
    pub fn minimum<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Self> {
        let (a, b) = self.beside(other)?;
        dispatch!(a.dtype, T => zip(&a, &b, |a: T, b: T| if a <= b || a.is_nan() { a } else { b }))
    }

    /// Bitwise "and" of integers or truth values. Errors: as [`Self::add`], and [`Error::Unsupported`] for floats.
    pub fn bit_and<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Self> {
        self.bitwise("&", other.into(), |a, b| a & b)
    }

    /// Bitwise "or". Errors: as [`Self::bit_and`].
    pub fn bit_or<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Self> {
        self.bitwise("|", other.into(), |a, b| a | b)
    }

    /// Bitwise "exclusive or". Errors: as [`Self::bit_and`].
    pub fn bit_xor<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Self> {
        self.bitwise("^", other.into(), |a, b| a ^ b)
    }

    fn bitwise(
        &self,
        sign: &'static str,
        other: Operand<'_>,
        f: impl Fn(i64, i64) -> i64 + Sync,
    ) -> Result<Self> {
        let (a, b) = self.beside(other)?;
        if a.dtype.is_float() {
            return Err(Error::Unsupported {
                operation: sign,
                dtype: a.dtype,
                instead: "it is for integers and bool",
            });
        }
        dispatch!(a.dtype, T => zip(&a, &b, |a: T, b: T| T::from_i64(f(a.to_i64(), b.to_i64()))))
    }

    /// Both sides in the type they have in common.
    fn beside<'a>(&self, other: impl Into<Operand<'a>>) -> Result<(Self, Self)> {
        self.with_common_dtype(&other.into().beside(self.dtype)?)
    }

    /// Two tensors in the type they have in common.
    pub(super) fn with_common_dtype(&self, other: &Self) -> Result<(Self, Self)> {
        let dtype = promote(self.dtype, other.dtype);
        if dtype == DType::Ternary {
            return Err(Error::Packed);
        }
        Ok((self.to_dtype(dtype)?, other.to_dtype(dtype)?))
    }

    pub(super) fn not_bool(&self, operation: &'static str, instead: &'static str) -> Result<()> {
        if self.dtype == DType::Bool {
            return Err(Error::Unsupported { operation, dtype: DType::Bool, instead });
        }
        Ok(())
    }
}

/// The arithmetic of one type.
pub(super) trait Arithmetic: Element {
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    fn floored(self, other: Self) -> Self;
    fn modulo(self, other: Self) -> Self;
    fn power(self, other: Self) -> Self;
}

/// Floats are computed in float32 and rounded once.
macro_rules! float_arithmetic {
    ($($type:ident),*) => {$(
        impl Arithmetic for $type {
            fn plus(self, other: Self) -> Self {
                Self::from_f32(self.to_f32() + other.to_f32())
            }
            fn minus(self, other: Self) -> Self {
                Self::from_f32(self.to_f32() - other.to_f32())
            }
            fn times(self, other: Self) -> Self {
                Self::from_f32(self.to_f32() * other.to_f32())
            }
            fn floored(self, other: Self) -> Self {
                Self::from_f32(floor_div(self.to_f32(), other.to_f32()))
            }
            fn modulo(self, other: Self) -> Self {
                Self::from_f32(modulo(self.to_f32(), other.to_f32()))
            }
            fn power(self, other: Self) -> Self {
                Self::from_f32(self.to_f32().powf(other.to_f32()))
            }
        }
    )*};
}

float_arithmetic!(f32, f16, bf16);

/// The remainder with the sign of `b`, as Python defines it.
fn modulo(a: f32, b: f32) -> f32 {
    let rest = a % b;
    if rest == 0.0 {
        0.0_f32.copysign(b)
    } else if (rest < 0.0) == (b < 0.0) {
        rest
    } else {
        rest + b
    }
}

/// By way of the remainder, so that the quotient is not rounded up to the next integer.
fn floor_div(a: f32, b: f32) -> f32 {
    if b == 0.0 {
        return a / b;
    }
    let rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return 0.0_f32.copysign(a / b);
    }
    let floor = quotient.floor();
    if quotient - floor > 0.5 { floor + 1.0 } else { floor }
}

macro_rules! integer_arithmetic {
    ($($type:ident),*) => {$(
        impl Arithmetic for $type {
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            fn times(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[allow(unused_comparisons, reason = "the macro serves u8 too")]
            fn floored(self, other: Self) -> Self {
                if other == 0 {
                    return 0;
                }
                let (quotient, rest) = (self.wrapping_div(other), self.wrapping_rem(other));
                if rest != 0 && (rest < 0) != (other < 0) { quotient - 1 } else { quotient }
            }
            #[allow(unused_comparisons, reason = "the macro serves u8 too")]
            fn modulo(self, other: Self) -> Self {
                if other == 0 {
                    return 0;
                }
                let rest = self.wrapping_rem(other);
                if rest != 0 && (rest < 0) != (other < 0) { rest + other } else { rest }
            }
            fn power(self, other: Self) -> Self {
                // By squaring, for exponents of any size.
                let (mut base, mut exponent, mut power): (Self, Self, Self) = (self, other, 1);
                while exponent > 0 {
                    if exponent & 1 == 1 {
                        power = Self::wrapping_mul(power, base);
                    }
                    base = base.wrapping_mul(base);
                    exponent >>= 1;
                }
                power
            }
        }
    )*};
}

integer_arithmetic!(i8, u8, i32, i64);

/// Sums are "or", products "and"; the rest is refused before it comes here.
impl Arithmetic for Bool {
    fn plus(self, other: Self) -> Self {
        (self.get() | other.get()).into()
    }
    fn minus(self, other: Self) -> Self {
        (self.get() ^ other.get()).into()
    }
    fn times(self, other: Self) -> Self {
        (self.get() & other.get()).into()
    }
    fn floored(self, other: Self) -> Self {
        self.times(other)
    }
    fn modulo(self, other: Self) -> Self {
        (self.get() & !other.get()).into()
    }
    fn power(self, other: Self) -> Self {
        (self.get() | !other.get()).into()
    }
}
