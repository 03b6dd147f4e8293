//! Tensors of a run, to be written.

use bitnet_core::tensor::Element;
use bitnet_core::{DType, Tensor};
use bitnet_inference::convert::safetensors::Spec;

/// A named array: a parameter, or what an optimizer keeps of it.
#[derive(Debug, Clone, Copy)]
pub struct StateTensor<'a> {
    name: &'a str,
    dtype: DType,
    dims: &'a [usize],
    bytes: &'a [u8],
}

impl<'a> StateTensor<'a> {
    /// An array of shape `dims`, row by row, of float32 or any other type of elements.
    pub fn new<T: Element>(name: &'a str, dims: &'a [usize], values: &'a [T]) -> Self {
        assert_eq!(
            values.len(),
            dims.iter().product::<usize>(),
            "{name} has as many values as its shape {dims:?}"
        );
        Self { name, dtype: T::DTYPE, dims, bytes: bytemuck::cast_slice(values) }
    }

    /// A tensor without gaps: [`Tensor::contiguous`].
    pub fn of(name: &'a str, tensor: &'a Tensor) -> Self {
        assert!(tensor.is_contiguous(), "{name} has gaps");
        Self { name, dtype: tensor.dtype(), dims: tensor.dims(), bytes: tensor.data() }
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn spec(&self) -> Spec {
        Spec { name: self.name.to_owned(), dtype: self.dtype, dims: self.dims.to_vec() }
    }
}
