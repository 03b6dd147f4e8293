//! Many requests at once, for one model.
//!
//! A thread runs one batch after another; each weight is read once per batch, for all sequences in it. Requests come
//! from any thread, and answers go where each request says.

mod choosing;
mod device;
mod handle;
mod inbox;
mod options;
mod page_pool;
mod prefix_tree;
mod recovery;
mod request;
mod scheduler;
mod task;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use self::device::Device;
pub use self::handle::Handle;
use self::inbox::{Closing, Inbox};
pub use self::options::EngineOptions;
pub use self::request::{Event, Request};
use self::scheduler::Scheduler;
use self::task::Task;
pub use self::task::{AGING, Sink};
use crate::backend::{Backend, Limits, PAGE};
use crate::generate::{FinishReason, Generation, Prompt};
use crate::loaded_model::LoadedModel;
use crate::monitor::{PerformanceMonitor, Snapshot};
use crate::{Error, Result};

/// Generates many texts at once with one model.
///
/// ```
/// use bitnet_inference::{EngineOptions, InferenceEngine, LoadOptions, LoadedModel, Request};
///
/// let model = LoadedModel::embedded(&LoadOptions::default())?;
/// let engine = InferenceEngine::new(model, EngineOptions::default())?;
/// let texts = ["My fellow citizens", "It is time"].map(|prompt| engine.submit(prompt, &Request::default()));
/// for text in texts {
///     assert!(!text?.wait()?.text.is_empty());
/// }
/// # Ok::<(), bitnet_inference::Error>(())
/// ```
#[derive(Debug)]
pub struct InferenceEngine {
    model: Arc<LoadedModel>,
    inbox: Arc<Inbox>,
    monitor: Arc<PerformanceMonitor>,
    options: EngineOptions,
    positions: usize,
    thread: Option<JoinHandle<()>>,
}

/// Ends a request at the next step.
#[derive(Debug, Clone)]
pub struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    /// Ends it; its text so far is its answer.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl InferenceEngine {
    /// Starts an engine on the backend of the model, and on the CPU when the device of that fails.
    ///
    /// Errors: [`Error::InvalidOption`].
    pub fn new(model: Arc<LoadedModel>, options: EngineOptions) -> Result<Self> {
        let backends = model.backends();
        Self::with_backends(model, backends, options)
    }

    /// Starts an engine on the first of `backends`, all of which hold `model`; each of the others takes over when the one
    /// before it fails.
    ///
    /// Errors: [`Error::InvalidOption`]; that of the last backend when none can start.
    pub fn with_backends(
        model: Arc<LoadedModel>,
        backends: Vec<Arc<dyn Backend>>,
        options: EngineOptions,
    ) -> Result<Self> {
        options.check()?;
        let limits = limits(&model, &backends, &options)?;
        let monitor = Arc::new(PerformanceMonitor::new(&*model.summary().model, model.config().layers));
        let device = Device::new(backends, limits, options.kv_type, Arc::clone(monitor.layer_times()))
            .map_err(|error| match error {
                Error::OutOfMemory { .. } => {
                    let got = bitnet_core::ByteSize(options.kv_bytes as u64).to_string();
                    Error::InvalidOption { name: "kv_memory", expected: "no more than there is memory", got }
                }
                error => error,
            })?;
        let scheduler = Scheduler::new(options.clone(), device, Arc::clone(&monitor));
        let inbox = Arc::new(Inbox::new(options.queue, Arc::clone(&monitor)));
        let thread = std::thread::Builder::new().name("bitnet-engine".to_owned()).spawn({
            let inbox = Arc::clone(&inbox);
            move || run(scheduler, &inbox)
        });
        let thread = thread.map_err(|error| Error::io("the thread of the engine", error))?;
        Ok(Self { model, inbox, monitor, options, positions: limits.positions, thread: Some(thread) })
    }

    /// The model.
    pub fn model(&self) -> &Arc<LoadedModel> {
        &self.model
    }

    /// What it may use.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// The most tokens of a prompt and its text together.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Asks for a text. Its handle gives the text as it comes, and ends it when it is dropped.
    ///
    /// Errors: [`Error::QueueFull`]; those of [`LoadedModel::stream`].
    pub fn submit<'p>(&self, prompt: impl Into<Prompt<'p>>, request: &Request) -> Result<Handle> {
        Handle::new(|sink| self.send(prompt.into(), request, sink, Inbox::send))
    }

    /// [`Self::submit`], which waits for a place in the queue.
    pub fn submit_waiting<'p>(&self, prompt: impl Into<Prompt<'p>>, request: &Request) -> Result<Handle> {
        Handle::new(|sink| self.send(prompt.into(), request, sink, Inbox::send_waiting))
    }

    /// Asks for `count` texts behind the same prompt, which is computed once. A seed gives each a seed of its own, as
    /// [`Request::sample`] does.
    ///
    /// Errors: those of [`Self::submit`]; then none is generated.
    pub fn submit_many<'p>(
        &self,
        prompt: impl Into<Prompt<'p>>,
        request: &Request,
        count: usize,
    ) -> Result<Vec<Handle>> {
        let prompt = prompt.into();
        (0..count).map(|index| self.submit(prompt, &request.sample(index))).collect()
    }

    /// Asks for a text that goes to `sink`, on the thread of the engine.
    ///
    /// Errors: those of [`Self::submit`].
    pub fn submit_to<'p>(
        &self,
        prompt: impl Into<Prompt<'p>>,
        request: &Request,
        sink: Sink,
    ) -> Result<Cancellation> {
        self.send(prompt.into(), request, sink, Inbox::send)
    }

    /// Sends a request to the thread by way of `send`.
    fn send(
        &self,
        prompt: Prompt<'_>,
        request: &Request,
        sink: Sink,
        send: impl FnOnce(&Inbox, Task) -> Result<()>,
    ) -> Result<Cancellation> {
        let task = Task::new(Arc::clone(&self.model), prompt, request, self.positions, sink)?;
        let cancellation = Cancellation(task.cancellation());
        send(&self.inbox, task)?;
        Ok(cancellation)
    }

    /// Waits until the queue has a place, or the engine ends; whether that is so after at most `timeout`. Another may be
    /// faster to take the place.
    pub fn wait_for_place(&self, timeout: Duration) -> bool {
        self.inbox.wait_for_place(timeout)
    }

    /// Generates the texts behind some prompts, in their order, each with its own outcome. There may be more of them than
    /// the queue holds.
    pub fn generate(&self, prompts: &[Prompt<'_>], request: &Request) -> Vec<Result<Generation>> {
        let handles: Vec<Result<Handle>> =
            prompts.iter().map(|prompt| self.submit_waiting(*prompt, request)).collect();
        handles.into_iter().map(|handle| handle?.wait()).collect()
    }

    /// All figures as of now.
    pub fn stats(&self) -> Snapshot {
        self.monitor.snapshot()
    }

    /// What counts them.
    pub fn monitor(&self) -> &Arc<PerformanceMonitor> {
        &self.monitor
    }

    /// Takes no more requests, and returns when those there are have their texts.
    pub fn finish(mut self) {
        self.close(Closing::Finish);
    }

    fn close(&mut self, closing: Closing) {
        self.inbox.close(closing);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has gone to the requests: their channels are closed.
            let _ = thread.join();
        }
    }
}

impl Drop for InferenceEngine {
    /// Ends what it was asked for.
    fn drop(&mut self) {
        self.close(Closing::Cancel);
    }
}

/// What a session needs room for.
fn limits(model: &LoadedModel, backends: &[Arc<dyn Backend>], options: &EngineOptions) -> Result<Limits> {
    let context_length = model.config().context_length;
    let invalid = |name, expected, got: usize| Error::InvalidOption { name, expected, got: got.to_string() };
    if options.context.is_some_and(|context| context > context_length) {
        let got = options.context.unwrap_or_default();
        return Err(invalid("context", "at most the context of the model", got));
    }
    let page_bytes = backends.iter().map(|backend| backend.page_bytes(options.kv_type)).max().unwrap_or(1);
    let pages = (options.kv_bytes / page_bytes.max(1)).min(u32::MAX as usize);
    if pages == 0 {
        return Err(invalid("kv_memory", "room for a page of 64 tokens", options.kv_bytes));
    }
    let positions = options.context.unwrap_or(context_length).min(pages.saturating_mul(PAGE));
    Ok(Limits { pages, positions, tokens: options.step_tokens })
}

/// Runs batches until the engine is closed.
fn run(mut scheduler: Scheduler, inbox: &Inbox) {
    // However this thread ends, nobody is to wait for it.
    let _abandon = Abandon(inbox);
    loop {
        match inbox.hand_over(&mut scheduler) {
            Some(Closing::Cancel) => return scheduler.stop(FinishReason::Cancelled),
            Some(Closing::Finish) if scheduler.is_idle() => return,
            _ => scheduler.step(),
        }
    }
}

struct Abandon<'a>(&'a Inbox);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
