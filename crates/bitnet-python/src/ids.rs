//! Token ids as Python gives them.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::exception;

/// Token ids from any sequence of integers.
pub(crate) fn token_ids(name: &str, ids: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    let wrong = || PyTypeError::new_err(format!("{name} must be a sequence of token ids"));
    if ids.is_instance_of::<PyString>() {
        return Err(wrong());
    }
    let ids: Vec<i64> =
        ids.try_iter().and_then(|ids| ids.map(|id| id?.extract()).collect()).map_err(|_| wrong())?;
    ids.into_iter()
        .map(|id| u32::try_from(id).map_err(|_| exception("PromptError", &format!("{id} is not a token id"))))
        .collect()
}
