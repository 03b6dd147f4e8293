//! A text to come.

use std::time::{Duration, Instant};

use bitnet_inference::Error;
use pyo3::exceptions::{PyStopAsyncIteration, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::notifier::call;
use super::process::{check_process, wait};
use super::progress::{Next, Outcome, Waiter};
use super::running::Submission;
use crate::error::Failure;
use crate::generation::{Chunk, Generation};

/// A text that an engine generates: a future of concurrent.futures in its methods, and an iterator over the chunks.
///
/// `for chunk in future` and `async for chunk in future` give each chunk once, to whoever asks first; `await future` gives
/// the Generation. Any thread and any event loop may wait. What the request raised is raised by all of these. When the
/// object is dropped the text ends, unless it has a callback. Made by Engine.submit().
#[pyclass(frozen, module = "bitnet_rust")]
pub(crate) struct GenerationFuture {
    submission: Submission,
    generation: PyOnceLock<Py<Generation>>,
    process: u32,
}

#[pymethods]
impl GenerationFuture {
    /// Wait for the whole text, timeout seconds at most.
    ///
    /// A text that was cancelled, or came to its deadline, is as long as it got; finish_reason says so. Raises TimeoutError,
    /// and what the request raised.
    #[pyo3(signature = (timeout = None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> Result<Py<Generation>, Failure> {
        let generation = match self.outcome(py, timeout)? {
            Ok(generation) => generation,
            Err(error) => return Err(Error::Shared(error).into()),
        };
        let made = self.generation.get_or_try_init(py, || Py::new(py, Generation::new(py, generation)?))?;
        Ok(made.clone_ref(py))
    }

    /// Wait for the end, timeout seconds at most; what result() would raise, or None. Raises TimeoutError.
    #[pyo3(signature = (timeout = None))]
    fn exception(&self, py: Python<'_>, timeout: Option<f64>) -> Result<Option<PyErr>, Failure> {
        let error = self.outcome(py, timeout)?.err();
        Ok(error.map(|error| Failure::Library(Error::Shared(error)).into()))
    }

    /// Whether the text has ended or the request failed.
    fn done(&self) -> Result<bool, Failure> {
        Ok(self.checked()?.progress.is_over())
    }

    /// Whether the text ended because of cancel().
    fn cancelled(&self) -> Result<bool, Failure> {
        Ok(self.checked()?.progress.is_cancelled())
    }

    /// Whether there is text, and more to come.
    fn running(&self) -> Result<bool, Failure> {
        Ok(self.checked()?.progress.is_running())
    }

    /// End the text at the next step. False when it has ended already.
    fn cancel(&self) -> Result<bool, Failure> {
        let submission = self.checked()?;
        submission.cancel();
        Ok(!submission.progress.is_over())
    }

    /// Call fn with this object at the end: at once when that has come, else on a thread that all callbacks of the engine
    /// share with its wake-ups of asyncio. What fn raises goes to sys.unraisablehook.
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Py<PyAny>) -> Result<(), Failure> {
        let py = slf.py();
        let callback = (r#fn, slf.clone().into_any().unbind());
        if let Some((callback, future)) = slf.get().checked()?.progress.add_callback(callback) {
            call(py, &callback, future);
        }
        Ok(())
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> Result<Option<Chunk>, Failure> {
        let progress = &self.checked()?.progress;
        let next = wait(py, None, |timeout| progress.next_within(timeout))?;
        next.map_or(Ok(None), |next| chunk(py, next))
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("bitnet_rust._asyncio")?.call_method1("next_chunk", (slf,))
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let module = slf.py().import("bitnet_rust._asyncio")?;
        module.call_method1("result", (slf,))?.call_method0("__await__")
    }

    /// A chunk that is there, or None. Raises StopAsyncIteration behind the last one.
    #[pyo3(name = "_take")]
    fn take_chunk(&self, py: Python<'_>) -> Result<Option<Chunk>, Failure> {
        let Some(next) = self.checked()?.progress.next_within(Duration::ZERO) else { return Ok(None) };
        let chunk = chunk(py, next)?.ok_or_else(|| PyStopAsyncIteration::new_err(()))?;
        Ok(Some(chunk))
    }

    /// Have a future of event_loop woken at the end, or at the next chunk. False when that is there.
    #[pyo3(name = "_wake")]
    fn add_waiter(&self, event_loop: Py<PyAny>, future: Py<PyAny>, at_end: bool) -> Result<bool, Failure> {
        let returned = self.checked()?.progress.add_waiter(Waiter { event_loop, future }, at_end);
        Ok(returned.is_none())
    }

    fn __repr__(&self) -> &'static str {
        let progress = &self.submission.progress;
        if self.process != std::process::id() {
            "GenerationFuture(of another process)"
        } else if progress.is_over() {
            "GenerationFuture(done)"
        } else if progress.is_running() {
            "GenerationFuture(running)"
        } else {
            "GenerationFuture(pending)"
        }
    }
}

impl GenerationFuture {
    pub(super) fn new(submission: Submission) -> Self {
        Self { submission, generation: PyOnceLock::new(), process: std::process::id() }
    }

    /// A lock that another thread held in the moment of a fork stays locked: nothing is asked there.
    fn checked(&self) -> Result<&Submission, Failure> {
        check_process(self.process)?;
        Ok(&self.submission)
    }

    fn outcome(&self, py: Python<'_>, timeout: Option<f64>) -> Result<Outcome, Failure> {
        let progress = &self.checked()?.progress;
        // One too far to be told from never is never.
        let deadline = |seconds: f64| {
            let timeout = Duration::try_from_secs_f64(seconds.max(0.0)).ok()?;
            Instant::now().checked_add(timeout)
        };
        let outcome = wait(py, timeout.and_then(deadline), |timeout| progress.outcome_within(timeout))?;
        outcome.ok_or_else(|| PyTimeoutError::new_err("the text has not ended yet").into())
    }
}

/// A chunk, or `None` for the end.
fn chunk(py: Python<'_>, next: Next) -> Result<Option<Chunk>, Failure> {
    match next {
        Next::Chunk(chunk) => Ok(Some(Chunk::new(py, chunk)?)),
        Next::Failed(error) => Err(Error::Shared(error).into()),
        Next::End => Ok(None),
    }
}
