//! Errors of the device as those of a backend.

use bitnet_metal::Error as MetalError;

use crate::Error;

/// What a session or a load of `tokens` positions failed with: a want of memory is one, whoever says so.
pub(super) fn failed(error: impl Into<Error>, tokens: usize) -> Error {
    match error.into() {
        Error::Metal(MetalError::OutOfMemory { .. }) => Error::OutOfMemory { tokens },
        error => error,
    }
}
