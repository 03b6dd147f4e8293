//! The state of an optimizer, as named tensors.

use std::collections::BTreeMap;

use bitnet_core::tensor::Element;
use bitnet_core::{DType, Tensor};

use crate::nn::Parameter;
use crate::{Error, Result};

/// Tensors by name: `<parameter>.<what>`, and `step`.
pub type State = BTreeMap<String, Tensor>;

/// The name of the number of steps so far.
const STEP: &str = "step";

pub(super) fn write_step(state: &mut State, step: u64) -> Result<()> {
    state.insert(STEP.to_owned(), Tensor::from_vec(vec![step as i64], [1])?);
    Ok(())
}

pub(super) fn read_step(state: &State) -> Result<u64> {
    let steps = find(state, STEP)?.to_dtype(DType::I64)?.to_vec::<i64>()?;
    match steps[..] {
        [step] if step >= 0 => Ok(step as u64),
        _ => Err(Error::InvalidOption { name: STEP, expected: "one number", got: format!("{steps:?}") }),
    }
}

/// Values of a parameter's shape.
pub(super) fn write(state: &mut State, parameter: &Parameter, what: &str, values: &[f32]) -> Result<()> {
    write_of(state, parameter, what, &parameter.variable().dims(), values.to_vec())
}

/// Values of another shape.
pub(super) fn write_of<T: Element>(
    state: &mut State,
    parameter: &Parameter,
    what: &str,
    dims: &[usize],
    values: Vec<T>,
) -> Result<()> {
    state.insert(format!("{}.{what}", parameter.name()), Tensor::from_vec(values, dims)?);
    Ok(())
}

/// What [`write`] has written.
pub(super) fn read(state: &State, parameter: &Parameter, what: &str) -> Result<Vec<f32>> {
    read_of(state, parameter, what, &parameter.variable().dims())
}

/// What [`write_of`] has written.
pub(super) fn read_of<T: Element>(
    state: &State,
    parameter: &Parameter,
    what: &str,
    dims: &[usize],
) -> Result<Vec<T>> {
    let name = format!("{}.{what}", parameter.name());
    let tensor = find(state, &name)?;
    if tensor.dims() != dims {
        return Err(Error::Shape { what: name, expected: dims.into(), got: tensor.shape().clone() });
    }
    Ok(tensor.to_vec()?)
}

fn find<'a>(state: &'a State, name: &str) -> Result<&'a Tensor> {
    state.get(name).ok_or_else(|| Error::MissingTensor(name.to_owned()))
}
