//! Arithmetic of shapes and strides.

use std::ops::Range;

use crate::{Error, Result, Shape};

/// Strides of a row-major tensor.
pub(super) fn row_major(dims: &[usize]) -> Vec<isize> {
    let mut strides = vec![1_isize; dims.len()];
    for axis in (1..dims.len()).rev() {
        // Where a dimension is 0 there are no elements, and the product of the others may leave the word.
        strides[axis - 1] = strides[axis].wrapping_mul(dims[axis].max(1) as isize);
    }
    strides
}

/// Whether strides are those of a row-major tensor, where they matter.
pub(super) fn is_row_major(dims: &[usize], strides: &[isize]) -> bool {
    dims.contains(&0)
        || dims
            .iter()
            .zip(strides)
            .zip(row_major(dims))
            .all(|((&dim, &stride), row)| dim == 1 || stride == row)
}

/// How many elements lie in memory before and after the one that index 0, 0, ... names; none in an empty tensor. Nothing
/// when they are more than can be counted.
pub fn reach(dims: &[usize], strides: &[isize]) -> Option<(usize, usize)> {
    let (mut before, mut after) = (0_usize, 0_usize);
    for (&dim, &stride) in dims.iter().zip(strides).filter(|_| !dims.contains(&0)) {
        let side = if stride < 0 { &mut before } else { &mut after };
        *side = side.checked_add((dim - 1).checked_mul(stride.unsigned_abs())?)?;
    }
    isize::try_from(before.checked_add(after)?).ok()?;
    Some((before, after))
}

/// The elements from the first to the last in memory; nothing when one would lie before the start, or beyond what can be
/// counted.
pub(crate) fn extent(dims: &[usize], strides: &[isize], offset: usize) -> Option<Range<usize>> {
    if dims.contains(&0) {
        return Some(0..0);
    }
    let (before, after) = reach(dims, strides)?;
    Some(offset.checked_sub(before)?..offset.checked_add(after)?.checked_add(1)?)
}

/// The shape that both shapes stretch to: dimensions are aligned at the end, and one of 1 stretches to the other.
///
/// Errors: [`Error::Shapes`] where two dimensions differ and neither is 1.
pub fn broadcast_shapes(a: &Shape, b: &Shape) -> Result<Shape> {
    let rank = a.rank().max(b.rank());
    let dim = |shape: &Shape, axis: usize| match (axis + shape.rank()).checked_sub(rank) {
        Some(axis) => shape.dims()[axis],
        None => 1,
    };
    (0..rank)
        .map(|axis| match (dim(a, axis), dim(b, axis)) {
            (1, other) | (other, 1) => Some(other),
            (a, b) => (a == b).then_some(a),
        })
        .collect::<Option<Vec<_>>>()
        .map(Shape::from)
        .ok_or_else(|| Error::Shapes { operation: "broadcast", a: a.clone(), b: b.clone() })
}

/// Strides that show the same elements under other dimensions of the same product, where there are such.
///
/// Dimensions are taken in groups of equal product, from the outside; a group can be cut anew if its elements lie at equal
/// distances.
pub(super) fn reshaped(dims: &[usize], strides: &[isize], new: &[usize]) -> Option<Vec<isize>> {
    if is_row_major(dims, strides) {
        return Some(row_major(new));
    }
    let old: Vec<(usize, isize)> =
        dims.iter().copied().zip(strides.iter().copied()).filter(|(dim, _)| *dim != 1).collect();
    let mut out = vec![1; new.len()];
    let (mut old_at, mut new_at) = (0, 0);
    while old_at < old.len() {
        let (old_start, new_start) = (old_at, new_at);
        let (mut old_product, mut new_product) = (old[old_at].0, 1);
        old_at += 1;
        while old_product != new_product {
            if new_product < old_product {
                new_product *= new.get(new_at)?;
                new_at += 1;
            } else {
                old_product *= old.get(old_at)?.0;
                old_at += 1;
            }
        }
        let group = &old[old_start..old_at];
        if group.windows(2).any(|pair| pair[0].1 != pair[1].1.wrapping_mul(pair[1].0 as isize)) {
            return None;
        }
        let mut stride = group[group.len() - 1].1;
        for axis in (new_start..new_at).rev() {
            out[axis] = stride;
            stride = stride.wrapping_mul(new[axis] as isize);
        }
    }
    Some(out)
}

/// A dimension counted from the start, or from the end when it is negative.
///
/// Errors: [`Error::Axis`].
pub(super) fn axis(axis: isize, rank: usize) -> Result<usize> {
    let from_start = if axis < 0 { axis + rank as isize } else { axis };
    usize::try_from(from_start).ok().filter(|&axis| axis < rank).ok_or(Error::Axis { axis, rank })
}

/// Which dimensions `axes` names; all when there are none.
///
/// Errors: [`Error::Axis`], also for one that is named twice.
pub(super) fn axes(axes: Option<&[isize]>, rank: usize) -> Result<Vec<bool>> {
    let Some(axes) = axes else { return Ok(vec![true; rank]) };
    let mut named = vec![false; rank];
    for &one in axes {
        let place = axis(one, rank)?;
        if std::mem::replace(&mut named[place], true) {
            return Err(Error::RepeatedAxis { axis: one });
        }
    }
    Ok(named)
}

/// An index counted from the start, or from the end when it is negative.
///
/// Errors: [`Error::Index`].
pub(super) fn index(index: i64, axis: usize, len: usize) -> Result<usize> {
    let from_start = if index < 0 { index.checked_add_unsigned(len as u64) } else { Some(index) };
    from_start
        .and_then(|index| usize::try_from(index).ok())
        .filter(|&index| index < len)
        .ok_or(Error::Index { index, axis, len })
}
