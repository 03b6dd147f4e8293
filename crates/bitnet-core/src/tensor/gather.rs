//! Elements at indices that a tensor holds.

use crate::{DType, Error, Result, Tensor};

use super::create::uncleared;
use super::element::dispatch;
use super::layout;
use super::threads::fill;
use super::walk::{Walk, strided};

/// Elements worth the start of a job.
const GRAIN: usize = 1 << 13;

impl Tensor {
    /// The slices at `indices` of dimension `axis`, which the dimensions of `indices` replace: rows of an embedding.
    /// Indices below 0 count from the end. `indices` of any integer type.
    ///
    /// Errors: [`Error::Axis`], [`Error::Index`] for the first that is outside, [`Error::DType`] for indices that are
    /// no integers, [`Error::OutOfMemory`].
    pub fn take(&self, indices: &Self, axis: isize) -> Result<Self> {
        let axis = layout::axis(axis, self.rank())?;
        let places = indices.as_indices(axis, self.dims()[axis])?;
        let mut dims = self.dims()[..axis].to_vec();
        dims.extend(indices.dims());
        dims.extend(&self.dims()[axis + 1..]);
        // Views of one row each would be walked one by one; where a row is in one piece, it is copied as one.
        let x = self.contiguous()?;
        let inner: usize = self.dims()[axis + 1..].iter().product();
        dispatch!(self.dtype, T => {
            let storage = x.elements::<T>();
            let storage: &[T] = &storage;
            let mut out = uncleared::<T>(crate::Shape::from(dims.clone()).elements()?)?;
            let row = inner.max(1);
            fill(&mut out, row * (GRAIN / row).max(1), &|start, out| {
                for (i, out) in out.chunks_exact_mut(row).enumerate() {
                    let at = start / row + i;
                    let (outer, place) = (at / places.len(), places[at % places.len()]);
                    out.copy_from_slice(&storage[(outer * self.dims()[axis] + place) * row..][..row]);
                }
            });
            Self::from_pool(out, dims)
        })
    }

    /// `out[i, .., j, .., k] = x[i, .., indices[i, .., j, .., k], .., k]`, with the index in dimension `axis`.
    ///
    /// `indices` has the rank of `x`, and its dimensions but `axis` broadcast with those of `x`; any integer type,
    /// below 0 from the end. NumPy: `take_along_axis`.
    ///
    /// Errors: as [`Self::take`], and [`Error::Shapes`].
    pub fn gather(&self, indices: &Self, axis: isize) -> Result<Self> {
        let axis = layout::axis(axis, self.rank())?;
        let mismatch =
            || Error::Shapes { operation: "gather", a: self.shape.clone(), b: indices.shape.clone() };
        if indices.rank() != self.rank() {
            return Err(mismatch());
        }
        let along = self.strides[axis];
        // Along `axis` the index says where to go, not the walk.
        let first = self.slice(axis as isize, 0..1)?;
        let mut dims = layout::broadcast_shapes(
            &dims_with(first.dims(), axis, 1).into(),
            &dims_with(indices.dims(), axis, 1).into(),
        )
        .map_err(|_| mismatch())?
        .dims()
        .to_vec();
        dims[axis] = indices.dims()[axis];
        let places = indices.as_indices(axis, self.dims()[axis])?;
        if dims.contains(&0) {
            return Self::zeros(dims, self.dtype);
        }
        let places =
            Self::from_vec(places.iter().map(|&place| place as i64).collect(), indices.shape.clone())?;
        let (x, places) = (first.broadcast_to(dims.clone())?, places.broadcast_to(dims.clone())?);
        dispatch!(self.dtype, T => {
            let (storage, place_storage) = (self.elements::<T>(), places.elements::<i64>());
            let (storage, place_storage): (&[T], &[i64]) = (&storage, &place_storage);
            // `first` may be contiguous and then has memory of its own extent: the walk starts where `self` does.
            let walk = Walk::new(&dims, [(&x.strides, self.offset), (&places.strides, places.offset)]);
            let mut out = uncleared::<T>(dims.iter().product())?;
            fill(&mut out, GRAIN, &|start, out| {
                walk.runs(start..start + out.len(), &mut |at, [x, place], len| {
                    let places = strided(place_storage, place, walk.inner[1], len);
                    for (i, (out, place)) in out[at - start..].iter_mut().zip(places).enumerate() {
                        let from = x as isize + i as isize * walk.inner[0] + place as isize * along;
                        *out = storage[from as usize];
                    }
                });
            });
            Self::from_pool(out, dims)
        })
    }

    /// Checked indices of a dimension of `len`, row-major.
    fn as_indices(&self, axis: usize, len: usize) -> Result<Vec<usize>> {
        if self.dtype.is_float() || self.dtype == DType::Bool {
            return Err(Error::DType { expected: "integer indices", got: self.dtype });
        }
        let indices = self.to_dtype(DType::I64)?.to_vec::<i64>()?;
        indices.into_iter().map(|index| layout::index(index, axis, len)).collect()
    }
}

fn dims_with(dims: &[usize], axis: usize, dim: usize) -> Vec<usize> {
    let mut dims = dims.to_vec();
    dims[axis] = dim;
    dims
}
