//! Views: the same memory under other shapes and strides.

use crate::{Error, Result, Shape, Tensor};

use super::layout;

/// Part of a dimension, as Python's `start:stop:step`: bounds below 0 count from the end, and those beyond are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The first index; nothing for the first in the direction of the step.
    pub start: Option<isize>,
    /// The index before which it ends; nothing to reach the end.
    pub stop: Option<isize>,
    /// Distance between indices, negative to go backwards.
    pub step: isize,
}

impl Slice {
    /// All of a dimension.
    pub const ALL: Self = Self { start: None, stop: None, step: 1 };

    /// The first index, and how many there are, of a dimension of `len`.
    fn of(self, len: usize) -> Result<(isize, usize)> {
        let len = len as isize;
        // Backwards, the place before the first index is a bound too.
        let (lowest, highest) = if self.step < 0 { (-1, len - 1) } else { (0, len) };
        let bound = |bound: Option<isize>, default| match bound {
            Some(bound) if bound < 0 => bound.saturating_add(len).max(lowest),
            Some(bound) => bound.min(highest),
            None => default,
        };
        let forwards = self.step > 0;
        let start = bound(self.start, if forwards { lowest } else { highest });
        let stop = bound(self.stop, if forwards { highest } else { lowest });
        let distance = if forwards { stop - start } else { start - stop };
        match self.step.unsigned_abs() {
            0 => Err(Error::ZeroStep),
            step => Ok((start, (distance.max(0) as usize).div_ceil(step))),
        }
    }
}

impl From<std::ops::Range<isize>> for Slice {
    fn from(range: std::ops::Range<isize>) -> Self {
        Self { start: Some(range.start), stop: Some(range.end), step: 1 }
    }
}

impl Tensor {
    /// The same elements in row-major order under other dimensions: a view where the strides allow it, else a copy.
    ///
    /// Errors: [`Error::Reshape`] when the number of elements differs, [`Error::OutOfMemory`].
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape.elements().ok() != Some(self.len()) {
            return Err(Error::Reshape { from: self.shape.clone(), to: shape });
        }
        match layout::reshaped(self.dims(), &self.strides, shape.dims()) {
            Some(strides) => self.view(shape, strides, self.offset),
            None => self.copied()?.reshape(shape),
        }
    }

    /// The dimensions in another order: dimension `i` of the view is `axes[i]` of the tensor.
    ///
    /// Errors: [`Error::Axis`], [`Error::RepeatedAxis`], [`Error::Rank`] when not all are named.
    pub fn permute(&self, axes: &[isize]) -> Result<Self> {
        layout::axes(Some(axes), self.rank())?;
        if axes.len() != self.rank() {
            return Err(Error::Rank {
                operation: "permute",
                expected: axes.len(),
                shape: self.shape.clone(),
            });
        }
        let axes: Vec<usize> =
            axes.iter().map(|&axis| layout::axis(axis, self.rank())).collect::<Result<_>>()?;
        let dims: Vec<usize> = axes.iter().map(|&axis| self.dims()[axis]).collect();
        let strides = axes.iter().map(|&axis| self.strides[axis]).collect();
        self.view(dims, strides, self.offset)
    }

    /// Two dimensions exchanged. Errors: [`Error::Axis`].
    pub fn swap_axes(&self, a: isize, b: isize) -> Result<Self> {
        let (a, b) = (layout::axis(a, self.rank())?, layout::axis(b, self.rank())?);
        let (mut dims, mut strides) = (self.dims().to_vec(), self.strides.clone());
        dims.swap(a, b);
        strides.swap(a, b);
        self.view(dims, strides, self.offset)
    }

    /// All dimensions in reverse order. Errors: [`Error::Packed`], as of every view.
    pub fn transpose(&self) -> Result<Self> {
        let dims: Vec<usize> = self.dims().iter().rev().copied().collect();
        let strides = self.strides.iter().rev().copied().collect();
        self.view(dims, strides, self.offset)
    }

    /// Part of one dimension. Errors: [`Error::Axis`], [`Error::ZeroStep`].
    pub fn slice(&self, axis: isize, slice: impl Into<Slice>) -> Result<Self> {
        let axis = layout::axis(axis, self.rank())?;
        let slice = slice.into();
        let (start, len) = slice.of(self.dims()[axis])?;
        let (mut dims, mut strides) = (self.dims().to_vec(), self.strides.clone());
        dims[axis] = len;
        // A step that leaves the word is one of a single element.
        let offset = if len == 0 { 0 } else { self.offset as isize + start * strides[axis] };
        strides[axis] = strides[axis].wrapping_mul(slice.step);
        self.view(dims, strides, offset as usize)
    }

    /// The elements at one index of a dimension, which goes. Below 0, it counts from the end.
    ///
    /// Errors: [`Error::Axis`], [`Error::Index`].
    pub fn select(&self, axis: isize, index: i64) -> Result<Self> {
        let axis = layout::axis(axis, self.rank())?;
        let index = layout::index(index, axis, self.dims()[axis])?;
        let (mut dims, mut strides) = (self.dims().to_vec(), self.strides.clone());
        dims.remove(axis);
        let offset = self.offset as isize + index as isize * strides.remove(axis);
        self.view(dims, strides, offset as usize)
    }

    /// With a new dimension of 1 at place `axis` of the result. Errors: [`Error::Axis`].
    pub fn unsqueeze(&self, axis: isize) -> Result<Self> {
        let axis = layout::axis(axis, self.rank() + 1)?;
        let (mut dims, mut strides) = (self.dims().to_vec(), self.strides.clone());
        dims.insert(axis, 1);
        strides.insert(axis, 1);
        self.view(dims, strides, self.offset)
    }

    /// Without dimension `axis`, which must be 1; without all that are when none is named.
    ///
    /// Errors: [`Error::Axis`], [`Error::Reshape`].
    pub fn squeeze(&self, axis: Option<isize>) -> Result<Self> {
        let named = axis.map(|axis| layout::axis(axis, self.rank())).transpose()?;
        let stays = |axis: usize| named.map_or(self.dims()[axis] != 1, |named| named != axis);
        let dims: Vec<usize> =
            (0..self.rank()).filter(|&axis| stays(axis)).map(|axis| self.dims()[axis]).collect();
        if named.is_some_and(|axis| self.dims()[axis] != 1) {
            return Err(Error::Reshape { from: self.shape.clone(), to: dims.into() });
        }
        let strides = (0..self.rank()).filter(|&axis| stays(axis)).map(|axis| self.strides[axis]).collect();
        self.view(dims, strides, self.offset)
    }

    /// Stretched to `shape`: new dimensions in front, and those of 1 repeated, at a stride of 0.
    ///
    /// Errors: [`Error::Shapes`], [`Error::ShapeOverflow`].
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        shape.elements()?;
        let Some(new) = shape.rank().checked_sub(self.rank()) else {
            return Err(self.no_broadcast(&shape));
        };
        let mut strides = vec![0; shape.rank()];
        for axis in 0..self.rank() {
            match (self.dims()[axis], shape.dims()[new + axis]) {
                (have, want) if have == want => strides[new + axis] = self.strides[axis],
                (1, _) => {}
                _ => return Err(self.no_broadcast(&shape)),
            }
        }
        self.view(shape, strides, self.offset)
    }

    fn no_broadcast(&self, shape: &Shape) -> Error {
        Error::Shapes { operation: "broadcast", a: self.shape.clone(), b: shape.clone() }
    }
}
