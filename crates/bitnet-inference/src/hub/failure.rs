//! Whether what went wrong may go right later.

use crate::Error;

/// Why a step of a download did not succeed. The texts are whole reasons of an [`Error::Hub`].
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no connection. Cached models still work.
    Unreachable(String),
    /// Trying again may help: a cut connection, a server in trouble.
    Transient(String),
    /// Trying again is useless.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// What the hub, or what leads to it, refuses for the model `id`.
pub(super) fn hub_error(id: &(impl ToString + ?Sized), reason: impl Into<String>) -> Error {
    Error::Hub { id: id.to_string(), reason: reason.into() }
}
