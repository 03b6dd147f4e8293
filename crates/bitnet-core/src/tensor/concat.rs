//! Several tensors as one.

use crate::{DType, Error, Result, Shape, Tensor};

use super::create::uncleared;
use super::{layout, promote};

impl Tensor {
    /// Tensors one after another along `axis`; their other dimensions are the same, their types are promoted.
    ///
    /// Errors: [`Error::Axis`], [`Error::Shapes`], [`Error::Empty`] of no tensors, [`Error::OutOfMemory`].
    pub fn concatenate(tensors: &[&Self], axis: isize) -> Result<Self> {
        let Some(first) = tensors.first() else {
            return Err(Error::Empty { operation: "concatenate", shape: Shape::default() });
        };
        let axis = layout::axis(axis, first.rank())?;
        let mut dims = first.dims().to_vec();
        dims[axis] = 0;
        for tensor in tensors {
            let is_alike = tensor.rank() == first.rank()
                && (0..first.rank())
                    .all(|other| other == axis || tensor.dims()[other] == first.dims()[other]);
            if !is_alike {
                let (a, b) = (first.shape().clone(), tensor.shape().clone());
                return Err(Error::Shapes { operation: "concatenate", a, b });
            }
            dims[axis] = dims[axis].saturating_add(tensor.dims()[axis]);
        }
        let dtype = tensors.iter().fold(first.dtype(), |dtype, tensor| promote(dtype, tensor.dtype()));
        if dtype == DType::Ternary {
            return Err(Error::Packed);
        }
        join(tensors, axis, dims.into(), dtype)
    }

    /// Tensors of one shape along a new dimension at place `axis` of the result; their types are promoted.
    ///
    /// Errors: as [`Self::concatenate`].
    pub fn stack(tensors: &[&Self], axis: isize) -> Result<Self> {
        for tensor in tensors {
            if tensor.shape() != tensors[0].shape() {
                let (a, b) = (tensors[0].shape().clone(), tensor.shape().clone());
                return Err(Error::Shapes { operation: "stack", a, b });
            }
        }
        let rows: Vec<Self> = tensors.iter().map(|tensor| tensor.unsqueeze(axis)).collect::<Result<_>>()?;
        Self::concatenate(&rows.iter().collect::<Vec<_>>(), axis)
    }
}

/// Copies the bytes: for every index of the dimensions before `axis`, the part of each tensor in turn.
fn join(tensors: &[&Tensor], axis: usize, shape: Shape, dtype: DType) -> Result<Tensor> {
    let inner = shape.dims()[axis + 1..].iter().product::<usize>() * dtype.size_bytes();
    let bytes = shape
        .elements()?
        .checked_mul(dtype.size_bytes())
        .ok_or_else(|| Error::ShapeOverflow(shape.clone()))?;
    let row = shape.dims()[axis] * inner;
    let mut out = uncleared::<u8>(bytes)?;
    let mut start = 0;
    for tensor in tensors {
        let part = tensor.to_dtype(dtype)?.contiguous()?;
        let len = tensor.dims()[axis] * inner;
        if len > 0 {
            for (out, part) in out.chunks_exact_mut(row).zip(part.data().chunks_exact(len)) {
                out[start..start + len].copy_from_slice(part);
            }
        }
        start += len;
    }
    Tensor::new(dtype, shape, out.into())
}
