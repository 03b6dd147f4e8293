//! `tensor[...]`.

use bitnet_core::tensor::Slice;
use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyEllipsis, PySlice, PyTuple};

use super::{Tensor, import};
use crate::error::{Failure, exception};

/// One part of an index.
enum Part<'py> {
    Integer(i64),
    Slice(Bound<'py, PySlice>),
    NewAxis,
    Ellipsis,
    Array(bitnet_core::Tensor),
}

impl Part<'_> {
    /// Dimensions of the tensor that it stands for.
    fn consumes(&self) -> usize {
        usize::from(!matches!(self, Self::NewAxis | Self::Ellipsis))
    }

    /// Whether NumPy counts it as advanced beside an array.
    fn is_advanced(&self) -> bool {
        matches!(self, Self::Integer(_) | Self::Array(_))
    }
}

fn part(object: Bound<'_, PyAny>) -> Result<Part<'_>, Failure> {
    if object.is_none() {
        return Ok(Part::NewAxis);
    }
    if object.is_instance_of::<PyEllipsis>() {
        return Ok(Part::Ellipsis);
    }
    let object = match object.cast_into::<PySlice>() {
        Ok(slice) => return Ok(Part::Slice(slice)),
        Err(error) => error.into_inner(),
    };
    if object.is_instance_of::<PyBool>() {
        return Err(PyIndexError::new_err("a truth value is no index").into());
    }
    if object.is_instance_of::<Tensor>() {
        return Ok(Part::Array(Tensor::elements_of(&object)?));
    }
    if let Ok(index) = object.extract::<i64>() {
        return Ok(Part::Integer(index));
    }
    if !object.hasattr("__len__")? {
        let message = "an index is an integer, a slice, None, ... or a tensor, array or list of integers";
        return Err(PyTypeError::new_err(message).into());
    }
    Ok(Part::Array(import::copied(&object, None)?))
}

fn parts<'py>(index: &Bound<'py, PyAny>, rank: usize) -> Result<Vec<Part<'py>>, Failure> {
    let parts: Vec<Part<'py>> = match index.cast::<PyTuple>() {
        Ok(tuple) => tuple.iter().map(part).collect::<Result<_, _>>()?,
        Err(_) => vec![part(index.clone())?],
    };
    let wrong = |message: &str| Err(PyIndexError::new_err(message.to_owned()).into());
    if parts.iter().filter(|part| matches!(part, Part::Ellipsis)).count() > 1 {
        return wrong("an index has at most one ...");
    }
    let consumed: usize = parts.iter().map(Part::consumes).sum();
    if consumed > rank {
        return wrong(&format!("{consumed} indices for {rank} dimensions"));
    }
    if parts.iter().any(|part| matches!(part, Part::Array(_))) {
        let advanced: Vec<usize> = (0..parts.len()).filter(|&at| parts[at].is_advanced()).collect();
        if advanced.windows(2).any(|pair| pair[1] != pair[0] + 1) {
            return wrong("integers and an array in one index stand side by side; index twice");
        }
        if parts.iter().filter(|part| matches!(part, Part::Array(_))).count() > 1 {
            return wrong("an index has at most one array; index twice, or use gather");
        }
    }
    Ok(parts)
}

impl Tensor {
    /// One place of a dimension, which goes.
    pub(super) fn selected(&self, axis: isize, index: i64) -> Result<Self, Failure> {
        self.viewed(|x| x.select(axis, index), |x| x.select(axis, index))
    }

    /// Part of a dimension.
    fn sliced(&self, py: Python<'_>, axis: isize, slice: Slice) -> Result<Self, Failure> {
        match (self.recorded(), slice) {
            (None, _) => Ok(self.value().slice(axis, slice)?.into()),
            (Some(_), Slice { start: Some(start), stop: Some(stop), step: 1 }) => self.viewed(
                |x| x.slice(axis, slice),
                |x| x.slice(axis, start as usize..stop.max(start) as usize),
            ),
            // The tape has no views with steps.
            (Some(_), _) => {
                let len = self.value().dims()[axis as usize];
                let places = bitnet_core::Tensor::from_vec((0..len as i64).collect(), [len])?;
                self.taken(py, &places.slice(0, slice)?, axis)
            }
        }
    }

    /// The slices at indices of a dimension.
    fn taken(&self, py: Python<'_>, indices: &bitnet_core::Tensor, axis: isize) -> Result<Self, Failure> {
        self.map(py, |x| x.take(indices, axis), |x| x.take(indices, axis))
    }
}

#[pymethods]
impl Tensor {
    /// Integers, slices, None and ... give views; a tensor, array or list of integers gives a copy, as take does.
    fn __getitem__(&self, py: Python<'_>, index: &Bound<'_, PyAny>) -> Result<Self, Failure> {
        let rank = self.value().rank();
        let parts = parts(index, rank)?;
        let consumed: usize = parts.iter().map(Part::consumes).sum();
        let mut x = self.clone();
        let mut axis = 0;
        for part in parts {
            match part {
                Part::Integer(index) => x = x.selected(axis as isize, index)?,
                Part::Slice(slice) => {
                    let slice = normalized(&slice, x.value().dims()[axis])?;
                    x = x.sliced(py, axis as isize, slice)?;
                    axis += 1;
                }
                Part::NewAxis => {
                    x = x.unsqueeze(axis as isize)?;
                    axis += 1;
                }
                Part::Ellipsis => axis += rank - consumed,
                Part::Array(indices) => {
                    x = x.taken(py, &indices, axis as isize)?;
                    axis += indices.rank();
                }
            }
        }
        Ok(x)
    }

    /// The slices at indices of a dimension, which the dimensions of indices replace. Below 0 they count from the end.
    ///
    /// indices is a tensor, array or list of integers, or an integer. Raises OutOfRangeError, DTypeError.
    #[pyo3(signature = (indices, axis = 0))]
    fn take(&self, py: Python<'_>, indices: &Bound<'_, PyAny>, axis: isize) -> Result<Self, Failure> {
        self.taken(py, &Self::elements_of(indices)?, axis)
    }

    /// out[i, .., j] = x[i, .., indices[i, .., j], ..] with the index along axis, as numpy.take_along_axis.
    ///
    /// indices has as many dimensions as the tensor; those but axis broadcast. Raises OutOfRangeError, ShapeError.
    #[pyo3(signature = (indices, axis = -1), text_signature = "($self, indices, axis=-1)")]
    fn gather(&self, py: Python<'_>, indices: &Bound<'_, PyAny>, axis: isize) -> Result<Self, Failure> {
        let indices = Self::elements_of(indices)?;
        self.map(py, |x| x.gather(&indices, axis), |x| x.gather(&indices, axis))
    }
}

/// A slice by what it selects of a dimension of `len`.
fn normalized(slice: &Bound<'_, PySlice>, len: usize) -> Result<Slice, Failure> {
    let all = slice
        .indices(len as isize)
        .map_err(|error| Python::attach(|py| exception("ShapeError", &error.value(py).to_string())))?;
    if all.slicelength == 0 {
        return Ok(Slice { start: Some(0), stop: Some(0), step: 1 });
    }
    let stop = (all.stop >= 0).then_some(all.stop);
    Ok(Slice { start: Some(all.start), stop, step: all.step })
}
