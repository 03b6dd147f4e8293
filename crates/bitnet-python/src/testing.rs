//! Checks for those who write backends in Python: `bitnet_rust.testing`.

use std::sync::Arc;

use bitnet_inference::backend::conformance::{Outcome, Subject, check};
use bitnet_inference::{EngineOptions, GenerateOptions, InferenceEngine, Prompt, Request};
use pyo3::prelude::*;

use crate::backend::python_backend;
use crate::error::Failure;
use crate::ids::token_ids;
use crate::model::{Model, count};

/// What is wrong with a backend, one text for each rule that it breaks.
#[pyfunction]
pub(crate) fn backend_violations(
    py: Python<'_>,
    backend: &Bound<'_, PyAny>,
    model: &Model,
    tolerance: f32,
) -> Result<Vec<String>, Failure> {
    let model = model.loaded();
    let backend = python_backend(backend, model)?;
    let subject = Subject { tolerance, ..Subject::exact(model.config().vocab_size) };
    let report = py.detach(|| check(&*backend, &subject));
    Ok(report.violations().map(Outcome::to_string).collect())
}

/// The most probable tokens behind ids, by an engine on a backend.
#[pyfunction]
pub(crate) fn greedy_tokens(
    py: Python<'_>,
    backend: &Bound<'_, PyAny>,
    model: &Model,
    ids: &Bound<'_, PyAny>,
    max_tokens: i64,
) -> Result<Vec<u32>, Failure> {
    let (model, ids) = (model.loaded(), token_ids("ids", ids)?);
    let backend = python_backend(backend, model)?;
    let options =
        GenerateOptions { max_tokens: count("max_tokens", max_tokens)?, ..GenerateOptions::default() };
    let engine = EngineOptions { kv_type: model.backend().kv_type(), ..EngineOptions::default() };
    Ok(py.detach(|| {
        let engine = InferenceEngine::with_backends(Arc::clone(model), vec![backend], engine)?;
        let request = Request { options, ..Request::default() };
        engine.submit(Prompt::Ids(&ids), &request)?.wait().map(|generation| generation.token_ids)
    })?)
}
