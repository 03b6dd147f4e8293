//! The one thread of an engine that enters the interpreter.
//!
//! The engine's thread must not wait until other threads let go of the interpreter's lock. It leaves word here, and the
//! notifier wakes event loops and calls callbacks: all that has come meanwhile, each time it gets the lock.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use bitnet_inference::Error;
use pyo3::prelude::*;

use super::progress::{Progress, Waiter};
use super::{process, slot};

/// Those that have to end before the interpreter does.
static LIVE: Mutex<Vec<Weak<Notifier>>> = Mutex::new(Vec::new());

enum Job {
    Tell(Arc<Progress>),
    Stop,
}

/// Where word is left.
#[derive(Clone)]
pub(super) struct Outbox(Sender<Job>);

impl Outbox {
    /// Has those told who listen to a request; nobody, once the notifier has ended.
    pub(super) fn tell(&self, request: Arc<Progress>) {
        let _ = self.0.send(Job::Tell(request));
    }
}

pub(super) struct Notifier {
    outbox: Outbox,
    thread: Mutex<Option<JoinHandle<()>>>,
    process: u32,
}

impl Notifier {
    pub(super) fn start() -> Result<Arc<Self>, Error> {
        let (sender, jobs) = channel();
        let thread = std::thread::Builder::new().name("bitnet-notifier".to_owned()).spawn(move || run(&jobs));
        let thread = thread.map_err(|error| Error::io("the thread of the notifier", error))?;
        let (outbox, thread) = (Outbox(sender), Mutex::new(Some(thread)));
        let notifier = Arc::new(Self { outbox, thread, process: std::process::id() });
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|other| other.strong_count() > 0);
        live.push(Arc::downgrade(&notifier));
        Ok(notifier)
    }

    pub(super) fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Ends the thread when it has told all there is. The caller must not hold the interpreter's lock, which it needs.
    pub(super) fn stop(&self) {
        if self.process != std::process::id() {
            return;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        let _ = self.outbox.0.send(Job::Stop);
        // A callback may close its engine; the thread cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

/// Ends every thread that enters the interpreter. Called when it ends.
#[pyfunction]
pub(crate) fn stop_notifiers(py: Python<'_>) {
    slot::end_all(py);
    process::leave_interpreter();
    py.detach(|| {
        let live = std::mem::take(&mut *LIVE.lock().unwrap_or_else(PoisonError::into_inner));
        live.iter().filter_map(Weak::upgrade).for_each(|notifier| notifier.stop());
    });
}

fn run(jobs: &Receiver<Job>) {
    while let Ok(Job::Tell(request)) = jobs.recv() {
        // Nothing to tell without an interpreter.
        if Python::try_attach(|py| tell_all(py, request, jobs)) != Some(true) {
            return;
        }
    }
}

/// Tells of a request, and of all others that wait for it by now; false when there will be no more.
fn tell_all(py: Python<'_>, first: Arc<Progress>, jobs: &Receiver<Job>) -> bool {
    let mut requests = vec![first];
    let mut goes_on = true;
    while let Ok(job) = jobs.try_recv() {
        match job {
            Job::Tell(request) => requests.push(request),
            Job::Stop => goes_on = false,
        }
    }
    let (mut waiters, mut callbacks) = (Vec::new(), Vec::new());
    for request in requests {
        let mut listeners = request.take_listeners();
        waiters.append(&mut listeners.waiters);
        callbacks.append(&mut listeners.callbacks);
    }
    wake(py, waiters);
    for (callback, request) in callbacks {
        call(py, &callback, request);
    }
    goes_on
}

/// Calls back; what it raises goes to sys.unraisablehook.
pub(super) fn call(py: Python<'_>, callback: &Py<PyAny>, request: Py<PyAny>) {
    if let Err(error) = callback.call1(py, (request,)) {
        error.write_unraisable(py, Some(callback.bind(py)));
    }
}

/// Wakes futures, all of an event loop at once.
fn wake(py: Python<'_>, waiters: Vec<Waiter>) {
    let mut loops: Vec<(Py<PyAny>, Vec<Py<PyAny>>)> = Vec::new();
    for Waiter { event_loop, future } in waiters {
        match loops.iter_mut().find(|(other, _)| other.is(&event_loop)) {
            Some((_, futures)) => futures.push(future),
            None => loops.push((event_loop, vec![future])),
        }
    }
    for (event_loop, futures) in loops {
        let wake = py.import("bitnet_rust._asyncio").and_then(|module| module.getattr("wake"));
        // A loop that was closed has nobody who waits.
        let _ = wake.and_then(|wake| event_loop.call_method1(py, "call_soon_threadsafe", (wake, futures)));
    }
}
