//! The one tensor type: a strided view of shared memory.
//!
//! A tensor is immutable. Views (`reshape`, `permute`, `slice`, `broadcast_to`) share the memory of what they are taken
//! from, and operations give new tensors, so that whoever holds a tensor, a tape of gradients for one, may keep it.
//! Strides count elements and may be negative or 0.
//!
//! A packed ternary matrix is a tensor too, for its name, shape and memory; it has no views and no arithmetic here, and
//! every operation says so.
//!
//! Operations run on the threads that [`with_threads`] lends them, and alone otherwise; the result is the same, bit for
//! bit. An operation reads strided operands where they lie, except where its doc says that it copies.

mod arithmetic;
mod comparison;
mod concat;
mod convert;
mod create;
mod display;
mod element;
mod elementwise;
mod fold;
mod gather;
mod gemm;
mod layout;
mod math;
mod matmul;
mod norm;
mod promote;
mod reduce;
mod scalar;
mod softmax;
mod threads;
mod view;
mod walk;

#[cfg(test)]
mod tests;

pub use element::{Bool, Element};
pub(crate) use layout::extent;
pub use layout::{broadcast_shapes, reach};
pub use promote::promote;
pub use scalar::{Operand, Scalar};
pub use threads::{lent_threads, with_threads};
pub use view::Slice;

use crate::{Buffer, DType, Device, Error, Result, Shape};

/// Elements of one type in a strided view of shared, immutable memory.
#[derive(Debug, Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    strides: Vec<isize>,
    /// The element that index 0, 0, ... names. A contiguous tensor has 0, and memory that ends with it.
    offset: usize,
    data: Buffer,
    device: Device,
}

impl Tensor {
    /// A row-major tensor over `data`, which is shared, not copied.
    ///
    /// Errors: [`Error::ByteLength`] when the bytes are not `elements x size` of the type, [`Error::ShapeOverflow`].
    pub fn new(dtype: DType, shape: impl Into<Shape>, data: Buffer) -> Result<Self> {
        let shape = shape.into();
        shape.elements()?;
        let expected = dtype.bytes_of(&shape)?.ok_or_else(|| Error::ShapeOverflow(shape.clone()))?;
        if data.len() != expected {
            return Err(Error::ByteLength { dtype, shape, expected, got: data.len() });
        }
        let strides = layout::row_major(shape.dims());
        Ok(Self { dtype, shape, strides, offset: 0, data, device: Device::Cpu })
    }

    /// A view of `data`, which is shared, not copied: element `i, j, ...` is number `offset + i strides[0] + j
    /// strides[1] + ...` of the memory.
    ///
    /// Errors: [`Error::View`] when an element would lie outside `data`, [`Error::ShapeOverflow`], [`Error::Packed`].
    pub fn strided(
        dtype: DType,
        shape: impl Into<Shape>,
        strides: Vec<isize>,
        offset: usize,
        data: Buffer,
    ) -> Result<Self> {
        let shape = shape.into();
        if dtype == DType::Ternary {
            return Err(Error::Packed);
        }
        shape.elements()?;
        let there_are = data.len() / dtype.size_bytes();
        let extent = layout::extent(shape.dims(), &strides, offset).filter(|range| range.end <= there_are);
        if strides.len() != shape.rank() || extent.is_none() {
            return Err(Error::View { shape, strides, offset, elements: there_are });
        }
        Ok(Self { dtype, shape, strides, offset, data, device: Device::Cpu }.settled())
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Dimensions.
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        // `new` has seen that the product fits.
        self.dims().iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.dims().contains(&0)
    }

    /// Distance in elements between neighbours along each dimension.
    pub fn strides(&self) -> &[isize] {
        &self.strides
    }

    /// Where the elements are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Whether the elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        layout::is_row_major(self.dims(), &self.strides)
    }

    /// The bytes of a contiguous tensor, row-major, little-endian. Panics for a strided view: see [`Self::contiguous`].
    pub fn data(&self) -> &Buffer {
        assert!(self.is_contiguous(), "the bytes of a strided view are not in order");
        &self.data
    }

    /// The memory that this is a view of, and the element in it that index 0, 0, ... names.
    pub fn storage(&self) -> (&Buffer, usize) {
        (&self.data, self.offset)
    }

    /// The same memory seen in another way, whose elements all lie in it.
    ///
    /// Errors: [`Error::Packed`].
    fn view(&self, shape: impl Into<Shape>, strides: Vec<isize>, offset: usize) -> Result<Self> {
        if self.dtype == DType::Ternary {
            return Err(Error::Packed);
        }
        let shape = shape.into();
        debug_assert!(
            layout::extent(shape.dims(), &strides, offset)
                .is_some_and(|range| range.end <= self.data.len() / self.dtype.size_bytes())
        );
        let (dtype, device) = (self.dtype, self.device);
        Ok(Self { dtype, shape, strides, offset, data: self.data.clone(), device }.settled())
    }

    /// Cuts the memory of a contiguous tensor to what it holds.
    fn settled(mut self) -> Self {
        if self.is_contiguous() {
            let start = if self.is_empty() { 0 } else { self.offset };
            let size = self.dtype.size_bytes();
            self.data = self.data.slice(start * size..(start + self.len()) * size);
            self.offset = 0;
        }
        self
    }

    /// The elements of all of the memory.
    fn elements<T: Element>(&self) -> Buffer<T> {
        debug_assert_eq!(self.dtype, T::DTYPE);
        self.data.typed()
    }
}
