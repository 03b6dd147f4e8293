//! Many requests at once.

mod generation_future;
mod notifier;
mod options;
mod process;
mod progress;
mod running;
mod slot;
mod stats;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bitnet_inference::engine::Request;
use bitnet_inference::{Error, Prompt};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

pub(crate) use self::generation_future::GenerationFuture;
pub(crate) use self::notifier::stop_notifiers;
use self::options::{engine_options, model_of, prompts_of, request_of, samples};
use self::process::{check_process, detached, wait};
use self::running::{Running, Submission};
use self::slot::{Slot, end_before_interpreter};
pub(crate) use self::stats::{
    BatchStats, Distribution, EngineStats, KvPageStats, PhaseStats, PrefixCacheStats, RequestStats,
    SpeculationStats,
};
use crate::backend::python_backend;
use crate::error::Failure;
use crate::generation::Generation;
use crate::prompt::OwnedPrompt;

/// Generates many texts at once: each weight is read once per step, for all of them; threads may share it.
///
/// model is a Model or what load() takes; backend, an object that is a Backend, runs it in place of its own. max_batch
/// sequences run at once; kv_memory, a number of bytes or a text like "2GiB", bounds the tokens they hold together, as
/// kv_dtype "f32", "f16" or "int8". context is the most tokens of a prompt and its text, by default what the model and
/// kv_memory allow; step_tokens those of a step, prefill_chunk those of prompts in a step in which others decode; queue
/// bounds the requests that wait.
///
/// As a context manager, plain or async, it waits at the end for all that was submitted; left by an exception it ends
/// that. What still runs when the interpreter ends, or when the object is dropped, is ended. Raises OptionError and the
/// errors of load().
#[pyclass(frozen, module = "bitnet_rust")]
pub(crate) struct Engine {
    /// `None` once it is closed. Waited for without the interpreter's lock.
    running: Arc<Slot>,
    description: String,
    process: u32,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (model = None, *, backend = None, max_batch = 32, kv_memory = None, kv_dtype = "f16",
                        context = None, step_tokens = 512, prefill_chunk = 64, queue = 1024),
           text_signature = "(model=None, *, backend=None, max_batch=32, kv_memory='2GiB', kv_dtype='f16', \
                             context=None, step_tokens=512, prefill_chunk=64, queue=1024)")]
    #[expect(clippy::too_many_arguments, reason = "the options of the Python call")]
    fn new(
        py: Python<'_>,
        model: Option<&Bound<'_, PyAny>>,
        backend: Option<&Bound<'_, PyAny>>,
        max_batch: i64,
        kv_memory: Option<&Bound<'_, PyAny>>,
        kv_dtype: &str,
        context: Option<i64>,
        step_tokens: i64,
        prefill_chunk: i64,
        queue: i64,
    ) -> Result<Self, Failure> {
        let options =
            engine_options(max_batch, kv_memory, kv_dtype, context, [step_tokens, prefill_chunk, queue])?;
        let model = model_of(py, model, backend.is_some())?;
        let description = format!("{:?}, max_batch {max_batch}, {kv_dtype}", model.summary().model);
        let calls_python = backend.is_some();
        let backend = match backend {
            Some(object) => python_backend(object, &model)?,
            None => model.shared_backend(),
        };
        let running = py.detach(|| Running::start(model, backend, options))?;
        let running = Arc::new(RwLock::new(Some(running)));
        if calls_python {
            end_before_interpreter(&running);
        }
        Ok(Self { running, description, process: std::process::id() })
    }

    /// Ask for a text behind prompt, a text or token ids; with n, for a list of n.
    ///
    /// Requests with a larger priority go first; waiting counts as priority, too. deadline is in seconds from now: then the
    /// text ends with finish_reason "deadline". The other options are those of Model.generate(), and so is the text. Of n
    /// texts each has a seed of its own, seed + i where there is a seed, and a future of its own; a prompt of 32 tokens or
    /// more is computed once for all. Raises QueueFullError, and then none of them is generated, EngineClosedError,
    /// PromptError, ContextLengthError, OptionError, TokenizerError.
    #[pyo3(signature = (prompt, *, n = None, priority = 0, deadline = None, **options),
           text_signature = "($self, prompt, *, n=None, priority=0, deadline=None, **options)")]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        prompt: &Bound<'py, PyAny>,
        n: Option<i64>,
        priority: i64,
        deadline: Option<f64>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> Result<Bound<'py, PyAny>, Failure> {
        let (n, request) = (samples(n)?, request_of(priority, deadline, options)?);
        let prompt = OwnedPrompt::new(prompt)?;
        let submit = |request: &Request| {
            let submission =
                self.with_running(py, |running| running.submit(prompt.get(), request, true))??;
            Ok::<_, Failure>(Bound::new(py, GenerationFuture::new(submission))?)
        };
        let Some(n) = n else { return Ok(submit(&request)?.into_any()) };
        let futures = (0..n).map(|index| submit(&request.sample(index))).collect::<Result<Vec<_>, _>>()?;
        Ok(PyList::new(py, futures)?.into_any())
    }

    /// Generate the texts behind several prompts, and return them in the order of the prompts; with n, a list of n for
    /// each. Options as submit().
    ///
    /// There may be more texts than the queue holds. The first that fails raises, and the others are ended; with
    /// return_exceptions the list has the exception at its place, and the others their texts.
    #[pyo3(signature = (prompts, *, n = None, return_exceptions = false, priority = 0, deadline = None, **options),
           text_signature = "($self, prompts, *, n=None, return_exceptions=False, priority=0, deadline=None, **options)")]
    #[expect(clippy::too_many_arguments, reason = "the options of the Python call")]
    fn generate<'py>(
        &self,
        py: Python<'py>,
        prompts: &Bound<'py, PyAny>,
        n: Option<i64>,
        return_exceptions: bool,
        priority: i64,
        deadline: Option<f64>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> Result<Bound<'py, PyList>, Failure> {
        let (n, request) = (samples(n)?, request_of(priority, deadline, options)?);
        request.options.check()?;
        let mut submissions = Vec::new();
        for prompt in prompts_of(prompts)? {
            let prompt = OwnedPrompt::new(&prompt?).map_err(PyErr::from);
            for index in 0..n.unwrap_or(1) {
                let submission = match &prompt {
                    Ok(prompt) => self.submit_waiting(py, prompt.get(), &request.sample(index)),
                    Err(error) => Err(error.clone_ref(py).into()),
                };
                submissions.push(kept(py, submission, return_exceptions)?);
            }
        }
        let texts = PyList::empty(py);
        for submission in submissions {
            let text = submission.and_then(|submission| finished(py, &submission));
            match kept(py, text, return_exceptions)? {
                Ok(text) => texts.append(Py::new(py, text)?)?,
                Err(failure) => texts.append(PyErr::from(failure).into_value(py))?,
            }
        }
        let Some(n) = n else { return Ok(texts) };
        let firsts = (0..texts.len()).step_by(n);
        Ok(PyList::new(py, firsts.map(|first| texts.get_slice(first, first + n)))?)
    }

    /// All figures as of now.
    fn stats(&self, py: Python<'_>) -> Result<EngineStats, Failure> {
        let snapshot = self.with_running(py, |running| running.engine().stats())?;
        Ok(EngineStats::new(py, snapshot)?)
    }

    /// Take no more requests and wait for those there are; with cancel, end them. Closing again does nothing.
    #[pyo3(signature = (*, cancel = false))]
    fn close(&self, py: Python<'_>, cancel: bool) -> Result<(), Failure> {
        if check_process(self.process).is_err() {
            return Ok(());
        }
        let running = py.detach(|| self.running.write().unwrap_or_else(PoisonError::into_inner).take());
        let Some(running) = running else { return Ok(()) };
        if !cancel {
            wait(py, None, |timeout| running.open().ended_within(timeout))?;
        }
        Ok(())
    }

    /// Whether it takes requests no more.
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        self.with_running(py, |_| ()).is_err()
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> Result<(), Failure> {
        self.close(py, is_raised(exception)?)
    }

    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("bitnet_rust._asyncio")?.call_method1("enter", (slf,))
    }

    #[pyo3(signature = (*exception))]
    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        exception: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let cancel = is_raised(exception)?;
        slf.py().import("bitnet_rust._asyncio")?.call_method1("close", (slf, cancel))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let closed = if self.closed(py) { ", closed" } else { "" };
        format!("Engine({}{closed})", self.description)
    }
}

impl Engine {
    /// Errors: [`Error::EngineClosed`].
    fn with_running<T: Send>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&Running) -> T + Send,
    ) -> Result<T, Failure> {
        check_process(self.process)?;
        let acted = detached(py, || {
            let running = self.running.read().unwrap_or_else(PoisonError::into_inner);
            running.as_ref().map(act)
        });
        acted.ok_or_else(|| Error::EngineClosed.into())
    }

    /// Submits a request as soon as the queue has a place.
    fn submit_waiting(
        &self,
        py: Python<'_>,
        prompt: Prompt<'_>,
        request: &Request,
    ) -> Result<Submission, Failure> {
        loop {
            let submission = self.with_running(py, |running| {
                let has_place = running.engine().wait_for_place(Duration::from_millis(50));
                has_place.then(|| running.submit(prompt, request, false)).transpose()
            })?;
            match submission {
                Ok(Some(submission)) => return Ok(submission),
                Ok(None) | Err(Error::QueueFull { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            py.check_signals()?;
        }
    }
}

/// The whole text.
fn finished(py: Python<'_>, submission: &Submission) -> Result<Generation, Failure> {
    let outcome = wait(py, None, |timeout| submission.progress.outcome_within(timeout))?;
    let generation = outcome.unwrap_or_else(|| Err(Error::EngineClosed.into()));
    Ok(Generation::new(py, generation.map_err(Error::Shared)?)?)
}

/// A failure of one request among others, to be kept with them; an interrupt, and any where none is kept, ends all.
fn kept<T>(py: Python<'_>, result: Result<T, Failure>, keeps: bool) -> Result<Result<T, Failure>, Failure> {
    match result {
        Err(failure) if !keeps || failure.is_interrupt(py) => Err(failure),
        result => Ok(result),
    }
}

/// Whether the arguments of `__exit__` say that something was raised.
fn is_raised(exception: &Bound<'_, PyTuple>) -> PyResult<bool> {
    Ok(!exception.is_empty() && !exception.get_item(0)?.is_none())
}
