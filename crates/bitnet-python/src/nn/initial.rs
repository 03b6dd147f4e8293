//! First values of layers.

use std::sync::{LazyLock, Mutex, PoisonError};

use bitnet_training::nn::{Embedding, Initializer, Linear, RmsNorm};
use pyo3::prelude::*;

use super::Parameter;
use crate::error::Failure;
use crate::model::count;

/// What new layers draw from.
static SOURCE: LazyLock<Mutex<Initializer>> = LazyLock::new(|| Mutex::new(Initializer::new(0)));

/// Begin anew with the random numbers that layers take their first weights from. A process begins with seed 0.
#[pyfunction]
pub(crate) fn manual_seed(seed: u64) {
    *SOURCE.lock().unwrap_or_else(PoisonError::into_inner) = Initializer::new(seed);
}

/// Draws from the source.
fn drawn<T: Send>(
    py: Python<'_>,
    draw: impl FnOnce(&mut Initializer) -> bitnet_training::Result<T> + Send,
) -> Result<T, Failure> {
    // The lock is taken without the GIL, which another thread may hold that waits for the lock.
    Ok(py.detach(|| draw(&mut SOURCE.lock().unwrap_or_else(PoisonError::into_inner)))?)
}

/// Weight [out_features, in_features] and bias [out_features] of a new linear: see nn.Linear.
#[pyfunction]
pub(crate) fn new_linear(
    py: Python<'_>,
    in_features: i64,
    out_features: i64,
    bias: bool,
) -> Result<(Py<Parameter>, Option<Py<Parameter>>), Failure> {
    let inputs = count("in_features", in_features)?;
    let outputs = count("out_features", out_features)?;
    let linear = drawn(py, |random| Linear::new("", inputs, outputs, bias, random))?;
    let bias = linear.bias.as_ref().map(|bias| Parameter::of(py, bias)).transpose()?;
    Ok((Parameter::of(py, &linear.weight)?, bias))
}

/// The table [num_embeddings, embedding_dim] of a new nn.Embedding.
#[pyfunction]
pub(crate) fn new_embedding(
    py: Python<'_>,
    num_embeddings: i64,
    embedding_dim: i64,
) -> Result<Py<Parameter>, Failure> {
    let rows = count("num_embeddings", num_embeddings)?;
    let width = count("embedding_dim", embedding_dim)?;
    Parameter::of(py, &drawn(py, |random| Embedding::new("", rows, width, random))?.weight)
}

/// The weight [width] of a new nn.RMSNorm.
#[pyfunction]
pub(crate) fn new_rms_norm(py: Python<'_>, width: i64) -> Result<Py<Parameter>, Failure> {
    Parameter::of(py, &RmsNorm::new("", count("width", width)?, 0.0)?.weight)
}
