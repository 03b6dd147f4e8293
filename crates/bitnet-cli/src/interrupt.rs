//! Ctrl-C: a flag that long work looks at between its steps.

use std::panic::resume_unwind;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::failure::Failure;

static PRESSED: AtomicBool = AtomicBool::new(false);

/// How often a wait looks at the flag: soon enough for a person, seldom enough to cost nothing.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// Takes Ctrl-C over from whoever handles it now, for the rest of the process, and forgets earlier presses.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    // Without a handler Ctrl-C still ends the process, only less cleanly.
    ONCE.call_once(|| drop(ctrlc::set_handler(|| PRESSED.store(true, Ordering::Relaxed))));
    PRESSED.store(false, Ordering::Relaxed);
}

/// Whether Ctrl-C was pressed.
pub(crate) fn is_pressed() -> bool {
    PRESSED.load(Ordering::Relaxed)
}

/// Takes note of Ctrl-C, once: what it was to stop has stopped.
pub(crate) fn take() -> bool {
    PRESSED.swap(false, Ordering::Relaxed)
}

/// An error once Ctrl-C was pressed.
pub(crate) fn check() -> Result<(), Failure> {
    if is_pressed() { Err(Failure::Interrupted) } else { Ok(()) }
}

/// Waits for `work`, on a thread of its own, or for Ctrl-C, whichever is first.
///
/// This is for work without steps between which to look at the flag: reading a terminal, downloading, loading. After
/// Ctrl-C its thread is left to itself and ends with the process.
pub(crate) fn or_done<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (running, is_running) = channel::<()>();
    let worker = std::thread::Builder::new().spawn(move || {
        // Dropped when the work is done, or panics, which wakes the wait below.
        let _running = running;
        work()
    });
    let worker = worker.map_err(|error| Failure::Other(format!("cannot start a thread: {error}")))?;
    while is_running.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
        check()?;
    }
    worker.join().unwrap_or_else(|panic| resume_unwind(panic))
}
