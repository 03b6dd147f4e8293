//! Numbers beside tensors.

use crate::{DType, Error, Result, Tensor};

use super::Element;
use super::element::dispatch;

/// One number of no particular type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A real number.
    Float(f64),
}

impl Scalar {
    /// As a tensor without dimensions.
    ///
    /// Errors: [`Error::OutOfRange`] for an integer that the type does not hold.
    pub fn to_tensor(self, dtype: DType) -> Result<Tensor> {
        Tensor::full([], self, dtype)
    }

    /// As a real number.
    pub fn to_f64(self) -> f64 {
        match self {
            Self::Bool(value) => value.into(),
            Self::Int(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    /// As an element.
    ///
    /// Errors: [`Error::OutOfRange`].
    pub(super) fn to_element<T: Element>(self) -> Result<T> {
        match self {
            Self::Bool(value) => Ok(T::from_i64(value.into())),
            Self::Float(value) => Ok(T::from_f32(value as f32)),
            Self::Int(value) if T::DTYPE.is_float() || T::DTYPE == DType::Bool => Ok(T::from_i64(value)),
            Self::Int(value) => {
                let element = T::from_i64(value);
                if element.to_i64() == value {
                    Ok(element)
                } else {
                    Err(Error::OutOfRange { value, dtype: T::DTYPE })
                }
            }
        }
    }

    /// The type it takes beside a tensor of `dtype`: the tensor's, unless its kind is below that of the number.
    fn weak_dtype(self, dtype: DType) -> DType {
        match self {
            Self::Int(_) if dtype == DType::Bool => DType::I64,
            Self::Float(_) if !dtype.is_float() => DType::F32,
            Self::Bool(_) | Self::Int(_) | Self::Float(_) => dtype,
        }
    }

    fn fits(self, dtype: DType) -> Result<bool> {
        dispatch!(dtype, T => Ok(self.to_element::<T>().is_ok()))
    }
}

/// The other side of an operation: a tensor, or a number, which takes the type of the tensor as far as its kind allows.
#[derive(Debug, Clone, Copy)]
pub enum Operand<'a> {
    /// A tensor.
    Tensor(&'a Tensor),
    /// A number.
    Scalar(Scalar),
}

impl Tensor {
    /// The element of a tensor of one.
    ///
    /// Errors: [`Error::NotOne`].
    pub fn item(&self) -> Result<Scalar> {
        if self.len() != 1 {
            return Err(Error::NotOne { shape: self.shape().clone() });
        }
        dispatch!(self.dtype(), T => {
            let element = self.to_vec::<T>()?[0];
            Ok(match T::DTYPE {
                DType::Bool => Scalar::Bool(element.is_true()),
                dtype if dtype.is_float() => Scalar::Float(element.to_f32().into()),
                _ => Scalar::Int(element.to_i64()),
            })
        })
    }
}

impl Operand<'_> {
    /// As a tensor that can stand beside one of `dtype` in arithmetic. A number beside integers is an integer of the
    /// same type or a `f32`; beside `bool` it is `i64` or `f32`.
    ///
    /// Errors: [`Error::OutOfRange`] for an integer that `dtype` does not hold.
    pub fn beside(self, dtype: DType) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.clone()),
            Self::Scalar(scalar) => scalar.to_tensor(scalar.weak_dtype(dtype)),
        }
    }

    /// The same for comparisons, in which a number may be out of range.
    pub(super) fn compared_with(self, dtype: DType) -> Result<Tensor> {
        match self {
            Self::Scalar(scalar) if !scalar.fits(scalar.weak_dtype(dtype))? => scalar.to_tensor(DType::I64),
            _ => self.beside(dtype),
        }
    }
}

impl<'a> From<&'a Tensor> for Operand<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl<S: Into<Scalar>> From<S> for Operand<'_> {
    fn from(scalar: S) -> Self {
        Self::Scalar(scalar.into())
    }
}

impl From<bool> for Scalar {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for Scalar {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<i64> for Scalar {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f32> for Scalar {
    fn from(value: f32) -> Self {
        Self::Float(value.into())
    }
}

impl From<f64> for Scalar {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}
