//! Numbers of bytes as Python gives them.

use bitnet_core::ByteSize;
use bitnet_inference::Error;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString};

use crate::error::Failure;

/// An int, or a text such as `"2GiB"`.
pub(crate) fn byte_size(name: &'static str, value: &Bound<'_, PyAny>) -> Result<ByteSize, Failure> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_cow()?.parse()?);
    }
    if !value.is_instance_of::<PyInt>() || value.is_instance_of::<PyBool>() {
        let message = format!("{name} must be a number of bytes, or a text like \"2GiB\"");
        return Err(PyTypeError::new_err(message).into());
    }
    value.extract().map(ByteSize).map_err(|_| {
        let (expected, got) = ("a number of bytes between 0 and 2**64 - 1", value.to_string());
        Error::InvalidOption { name, expected, got }.into()
    })
}
