//! An engine with what waits for its answers.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitnet_inference::backend::Backend;
use bitnet_inference::engine::{Cancellation, EngineOptions, Event, Request};
use bitnet_inference::{Error, InferenceEngine, LoadedModel, Prompt};
use pyo3::prelude::*;

use super::notifier::Notifier;
use super::progress::Progress;

/// An engine that takes requests. Dropping it ends them.
pub(super) struct Running {
    /// `None` while it is dropped.
    engine: Option<InferenceEngine>,
    notifier: Arc<Notifier>,
    open: Arc<OpenRequests>,
    process: u32,
}

/// A request that was submitted. Dropping it ends the text.
pub(super) struct Submission {
    pub(super) progress: Arc<Progress>,
    cancellation: Cancellation,
}

/// How many requests the engine has.
#[derive(Default)]
pub(super) struct OpenRequests {
    count: Mutex<usize>,
    none: Condvar,
}

/// The end of a request that the engine holds.
struct Reporter {
    progress: Arc<Progress>,
    open: Arc<OpenRequests>,
}

impl Running {
    pub(super) fn start(
        model: Arc<LoadedModel>,
        backend: Arc<dyn Backend>,
        options: EngineOptions,
    ) -> Result<Self, Error> {
        let engine = Some(InferenceEngine::with_backends(model, vec![backend], options)?);
        Ok(Self { engine, notifier: Notifier::start()?, open: Arc::default(), process: std::process::id() })
    }

    pub(super) fn engine(&self) -> &InferenceEngine {
        self.engine.as_ref().expect("only drop takes it")
    }

    /// Asks for a text; its chunks are kept for who takes them, if it `streams`.
    ///
    /// Errors: those of [`InferenceEngine::submit`].
    pub(super) fn submit(
        &self,
        prompt: Prompt<'_>,
        request: &Request,
        streams: bool,
    ) -> Result<Submission, Error> {
        let progress = Progress::new(self.notifier.outbox(), streams);
        let reporter = Reporter::new(&progress, &self.open);
        let sink = Box::new(move |event| reporter.take(event));
        let cancellation = self.engine().submit_to(prompt, request, sink)?;
        Ok(Submission { progress, cancellation })
    }

    /// The requests that have not ended.
    pub(super) fn open(&self) -> &OpenRequests {
        &self.open
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut engine = self.engine.take();
        let notifier = Arc::clone(&self.notifier);
        if self.process != std::process::id() {
            // The threads that they would wait for are not in this process.
            std::mem::forget((engine, notifier));
            return;
        }
        let mut end = || {
            drop(engine.take());
            notifier.stop();
        };
        // The notifier needs the interpreter, which this thread may hold.
        if Python::try_attach(|py| py.detach(&mut end)).is_none() {
            end();
        }
    }
}

impl Submission {
    /// Ends the text at the next step.
    pub(super) fn cancel(&self) {
        self.cancellation.cancel();
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl OpenRequests {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `Some` when there are none, after at most `timeout`.
    pub(super) fn ended_within(&self, timeout: Duration) -> Option<()> {
        let waited = self.none.wait_timeout_while(self.lock(), timeout, |count| *count > 0);
        let count = waited.unwrap_or_else(PoisonError::into_inner).0;
        (*count == 0).then_some(())
    }
}

impl Reporter {
    fn new(progress: &Arc<Progress>, open: &Arc<OpenRequests>) -> Self {
        *open.lock() += 1;
        Self { progress: Arc::clone(progress), open: Arc::clone(open) }
    }

    fn take(&self, event: Event) {
        self.progress.take(event);
    }
}

impl Drop for Reporter {
    /// The engine has let go of the request; where it did so without a word, its thread is gone.
    fn drop(&mut self) {
        self.progress.end(Err(Arc::new(Error::EngineClosed)));
        let mut count = self.open.lock();
        *count -= 1;
        if *count == 0 {
            self.open.none.notify_all();
        }
    }
}
