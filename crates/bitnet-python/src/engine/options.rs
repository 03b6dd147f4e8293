//! What an engine and its requests are asked for, as Python says it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bitnet_inference::backend::KvType;
use bitnet_inference::engine::{EngineOptions, Request};
use bitnet_inference::{Error, LoadOptions, LoadedModel};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyString};

use crate::byte_size::byte_size;
use crate::error::Failure;
use crate::generate_options::generate_options;
use crate::model::{Model, count, model_name};

/// A model that is loaded, or has to be; for a backend of the engine's own where there is one.
pub(super) fn model_of(
    py: Python<'_>,
    model: Option<&Bound<'_, PyAny>>,
    has_backend: bool,
) -> Result<Arc<LoadedModel>, Failure> {
    if let Some(model) = model.and_then(|model| model.cast::<Model>().ok()) {
        return Ok(Arc::clone(model.get().loaded()));
    }
    let wrong = |_| PyTypeError::new_err("model must be a Model, a path, a hub id or None");
    let path = model.map(|model| model.extract::<PathBuf>().map_err(wrong)).transpose()?;
    let name = path.map(model_name).transpose()?;
    let load = if has_backend { LoadedModel::load_on_demand } else { LoadedModel::load };
    Ok(py.detach(|| load(name.as_deref(), &LoadOptions::default()))?)
}

/// The last three counts are `step_tokens`, `prefill_chunk` and `queue`.
pub(super) fn engine_options(
    max_batch: i64,
    kv_memory: Option<&Bound<'_, PyAny>>,
    kv_dtype: &str,
    context: Option<i64>,
    [step_tokens, prefill_chunk, queue]: [i64; 3],
) -> Result<EngineOptions, Failure> {
    let default = EngineOptions::default();
    let kv_memory = kv_memory.map(|bytes| byte_size("kv_memory", bytes)).transpose()?;
    // More than can be addressed is more than there is.
    let kv_bytes = kv_memory.map(|size| usize::try_from(size.bytes()).unwrap_or(usize::MAX));
    Ok(EngineOptions {
        max_batch: count("max_batch", max_batch)?,
        kv_bytes: kv_bytes.unwrap_or(default.kv_bytes),
        kv_type: kv_type(kv_dtype)?,
        context: context.map(|context| count("context", context)).transpose()?,
        step_tokens: count("step_tokens", step_tokens)?,
        prefill_chunk: count("prefill_chunk", prefill_chunk)?,
        queue: count("queue", queue)?,
    })
}

fn kv_type(name: &str) -> Result<KvType, Error> {
    name.parse().map_err(|error| match error {
        Error::InvalidOption { expected, got, .. } => {
            Error::InvalidOption { name: "kv_dtype", expected, got }
        }
        other => other,
    })
}

/// The keyword arguments of a request.
pub(super) fn request_of(
    priority: i64,
    deadline: Option<f64>,
    options: Option<&Bound<'_, PyDict>>,
) -> Result<Request, Failure> {
    let invalid = |name, expected, got| Error::InvalidOption { name, expected, got };
    if let Some(seconds) = deadline.filter(|seconds| seconds.is_nan() || *seconds < 0.0) {
        return Err(invalid("deadline", "a number of seconds, at least 0", seconds.to_string()).into());
    }
    Ok(Request {
        options: generate_options(options)?,
        priority: i32::try_from(priority)
            .map_err(|_| invalid("priority", "between -2**31 and 2**31 - 1", priority.to_string()))?,
        // One that is too far to be counted never comes.
        deadline: deadline.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    })
}

/// How many texts are asked for behind a prompt, where it is several.
pub(super) fn samples(n: Option<i64>) -> Result<Option<usize>, Failure> {
    let invalid = |n: i64| Error::InvalidOption { name: "n", expected: "at least 1", got: n.to_string() };
    let several = |n: i64| usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| invalid(n).into());
    n.map(several).transpose()
}

/// The prompts of a list. One text is no list of texts.
pub(super) fn prompts_of<'py>(prompts: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyIterator>> {
    let wrong = || PyTypeError::new_err("prompts must be a sequence of texts or of lists of token ids");
    if prompts.is_instance_of::<PyString>() || prompts.is_instance_of::<PyBytes>() {
        return Err(wrong());
    }
    prompts.try_iter().map_err(|_| wrong())
}
