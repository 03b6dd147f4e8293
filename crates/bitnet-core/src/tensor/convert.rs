//! Other types, other orders, and out of tensors.

use crate::{DType, Error, Result, Tensor};

use super::Element;
use super::element::dispatch;
use super::elementwise::map;
use super::walk::{Walk, strided};

impl Tensor {
    /// The elements as another type; the same tensor where it has that type.
    ///
    /// Floats are rounded to the nearest, ties to even. A float becomes the integer towards 0, the nearest that the
    /// type holds, and NaN becomes 0; an integer becomes the same one modulo the range. Everything but 0 is true.
    ///
    /// Errors: [`Error::OutOfMemory`].
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype {
            return Ok(self.clone());
        }
        dispatch!(self.dtype, T => dispatch!(dtype, U => map(self, T::cast::<U>)))
    }

    /// The tensor with its elements in row-major order without gaps: itself where it is so, else a copy.
    ///
    /// Errors: [`Error::OutOfMemory`].
    pub fn contiguous(&self) -> Result<Self> {
        if self.is_contiguous() { Ok(self.clone()) } else { self.copied() }
    }

    /// A contiguous tensor with memory of its own.
    ///
    /// Errors: [`Error::OutOfMemory`].
    pub fn copied(&self) -> Result<Self> {
        dispatch!(self.dtype, T => map(self, |x: T| x))
    }

    /// The elements, row-major.
    ///
    /// Errors: [`Error::DType`] when `T` is not the type of the tensor, [`Error::OutOfMemory`].
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if self.dtype != T::DTYPE {
            return Err(Error::DType { expected: T::DTYPE.name(), got: self.dtype });
        }
        let storage = self.elements::<T>();
        let walk = Walk::new(self.dims(), [(&self.strides, self.offset)]);
        let mut out = Vec::new();
        let bytes = self.len().saturating_mul(size_of::<T>());
        out.try_reserve_exact(self.len()).map_err(|_| Error::OutOfMemory { bytes })?;
        walk.runs(0..self.len(), &mut |_, [x], len| match walk.inner {
            [1] => out.extend_from_slice(&storage[x..x + len]),
            [stride] => out.extend(strided(&storage, x, stride, len)),
        });
        Ok(out)
    }

    /// The elements widened to float32, from any floating-point type.
    ///
    /// Errors: [`Error::DType`] for integers, [`Error::OutOfMemory`].
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        if !self.dtype.is_float() {
            return Err(Error::DType { expected: "a floating-point type", got: self.dtype });
        }
        self.to_dtype(DType::F32)?.to_vec()
    }
}
