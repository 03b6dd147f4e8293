//! A generation that is consumed as it comes.

use std::sync::{Mutex, MutexGuard, TryLockError};

use bitnet_inference::{Step, TokenStream};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::error::Failure;
use crate::generation::{Chunk, Generation};

/// An iterator over the chunks of a generation. Dropping it ends the generation.
#[pyclass(frozen, module = "bitnet_rust")]
pub(crate) struct Stream {
    inner: Mutex<TokenStream>,
}

impl Stream {
    pub(crate) fn new(stream: TokenStream) -> Self {
        Self { inner: Mutex::new(stream) }
    }

    /// Runs to the end.
    pub(crate) fn finish(&self, py: Python<'_>) -> Result<Generation, Failure> {
        let mut stream = self.lock()?;
        while next_chunk(py, &mut stream)?.is_some() {}
        Ok(Generation::new(py, stream.generation())?)
    }

    /// Threads that share a stream would tear its text apart; the second is told so.
    fn lock(&self) -> PyResult<MutexGuard<'_, TokenStream>> {
        match self.inner.try_lock() {
            Ok(stream) => Ok(stream),
            Err(TryLockError::WouldBlock) => {
                Err(PyRuntimeError::new_err("the stream is in use by another thread"))
            }
            Err(TryLockError::Poisoned(_)) => {
                Err(PyRuntimeError::new_err("the stream failed in another thread"))
            }
        }
    }
}

/// The next chunk, with the interpreter free while the model works and Ctrl-C noticed between its steps.
fn next_chunk(py: Python<'_>, stream: &mut TokenStream) -> Result<Option<Chunk>, Failure> {
    loop {
        py.check_signals()?;
        match py.detach(|| stream.advance())? {
            Step::Prefill => {}
            Step::Chunk(chunk) => return Ok(Some(Chunk::new(py, chunk)?)),
            Step::Done(_) => return Ok(None),
        }
    }
}

#[pymethods]
impl Stream {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> Result<Option<Chunk>, Failure> {
        next_chunk(py, &mut *self.lock()?)
    }

    /// What was generated so far.
    #[getter]
    fn generation(&self, py: Python<'_>) -> PyResult<Generation> {
        let generation = self.lock()?.generation();
        Generation::new(py, generation)
    }

    fn __repr__(&self) -> PyResult<String> {
        let generation = self.lock()?.generation();
        Ok(format!("Stream({} tokens so far)", generation.token_ids.len()))
    }
}
