//! New tensors.

use crate::{Buffer, DType, Error, HybridMemoryPool, PoolVec, Result, Shape, Tensor};

use super::element::dispatch;
use super::{Element, Scalar};

/// Memory for `len` elements that are written all. Errors: [`Error::OutOfMemory`].
pub(super) fn uncleared<T: Element>(len: usize) -> Result<PoolVec<T>> {
    HybridMemoryPool::global().uncleared(len)
}

/// `len` zeros. Errors: [`Error::OutOfMemory`].
pub(super) fn zeroed<T: Element>(len: usize) -> Result<PoolVec<T>> {
    HybridMemoryPool::global().zeroed(len)
}

impl Tensor {
    /// A tensor of the elements of a vector, row-major.
    ///
    /// Errors: [`Error::ByteLength`], [`Error::ShapeOverflow`].
    pub fn from_vec<T: Element>(elements: Vec<T>, shape: impl Into<Shape>) -> Result<Self> {
        Self::new(T::DTYPE, shape, Buffer::from(elements).bytes())
    }

    /// A tensor of elements in memory of a pool, row-major. Errors: as [`Self::from_vec`].
    pub fn from_pool<T: Element>(elements: PoolVec<T>, shape: impl Into<Shape>) -> Result<Self> {
        Self::new(T::DTYPE, shape, Buffer::<T>::from(elements).bytes())
    }

    /// Zeros. Errors: [`Error::ShapeOverflow`], [`Error::OutOfMemory`].
    pub fn zeros(shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        let shape = shape.into();
        dispatch!(dtype, T => Self::from_pool(zeroed::<T>(shape.elements()?)?, shape))
    }

    /// Ones. Errors: [`Error::ShapeOverflow`], [`Error::OutOfMemory`].
    pub fn ones(shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        Self::full(shape, 1, dtype)
    }

    /// The same number everywhere. A float is cut towards 0 for integers.
    ///
    /// Errors: [`Error::OutOfRange`] for an integer that the type does not hold, [`Error::ShapeOverflow`],
    /// [`Error::OutOfMemory`].
    pub fn full(shape: impl Into<Shape>, value: impl Into<Scalar>, dtype: DType) -> Result<Self> {
        let (shape, value) = (shape.into(), value.into());
        dispatch!(dtype, T => {
            let value = value.to_element::<T>()?;
            let mut elements = uncleared::<T>(shape.elements()?)?;
            elements.fill(value);
            Self::from_pool(elements, shape)
        })
    }

    /// `start, start + step, ...`, short of `stop`: `max(ceil((stop - start) / step), 0)` elements.
    ///
    /// Element `i` is `start + i step` in float64, or in integers where `dtype` is one and all three are integers.
    ///
    /// Errors: [`Error::ZeroStep`], [`Error::OutOfRange`], [`Error::OutOfMemory`].
    pub fn arange(
        start: impl Into<Scalar>,
        stop: impl Into<Scalar>,
        step: impl Into<Scalar>,
        dtype: DType,
    ) -> Result<Self> {
        let (start, stop, step) = (start.into(), stop.into(), step.into());
        let [first, end, distance] = [start, stop, step].map(Scalar::to_f64);
        if distance == 0.0 || !distance.is_finite() {
            return Err(Error::ZeroStep);
        }
        // The conversion saturates; so many elements are refused for want of memory. NaN gives none.
        let len = ((end - first) / distance).ceil().max(0.0) as usize;
        let integers = match (start, step) {
            (Scalar::Int(start), Scalar::Int(step)) if !dtype.is_float() => Some((start, step)),
            _ => None,
        };
        dispatch!(dtype, T => {
            let mut elements = uncleared::<T>(len)?;
            for (i, element) in elements.iter_mut().enumerate() {
                *element = match integers {
                    Some((start, step)) => Scalar::Int(start.wrapping_add(step.wrapping_mul(i as i64))).to_element()?,
                    None => Scalar::Float(first + distance * i as f64).to_element()?,
                };
            }
            Self::from_pool(elements, [len])
        })
    }
}
