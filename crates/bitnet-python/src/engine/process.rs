//! The end of the interpreter, and forks: what threads that wait have to know.

use std::sync::OnceLock;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::error::{Failure, exception};

/// The thread that ends the interpreter.
static LEAVING: OnceLock<ThreadId> = OnceLock::new();

/// Time between two looks at Ctrl-C.
const SLICE: Duration = Duration::from_millis(50);

/// From now on the interpreter ends.
pub(super) fn leave_interpreter() {
    let _ = LEAVING.set(std::thread::current().id());
}

/// Waits for what `poll` gives after at most the time it is told, with the interpreter free meanwhile and Ctrl-C noticed.
/// `None` when `deadline` has passed.
pub(super) fn wait<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    poll: impl Fn(Duration) -> Option<T> + Sync,
) -> PyResult<Option<T>> {
    if let Some(found) = poll(Duration::ZERO) {
        return Ok(Some(found));
    }
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let found = detached(py, || poll(left.map_or(SLICE, |left| left.min(SLICE))));
        if found.is_some() {
            return Ok(found);
        }
        py.check_signals()?;
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(None);
        }
    }
}

/// Works with the interpreter free, and never returns to one that ends: until Python 3.14 a thread that tries to is
/// unwound, which aborts the process.
pub(super) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(|| {
        let done = work();
        while LEAVING.get().is_some_and(|leaving| *leaving != std::thread::current().id()) {
            std::thread::park();
        }
        done
    })
}

/// Errors: EngineClosedError in a fork of the process.
pub(super) fn check_process(process: u32) -> Result<(), Failure> {
    if process == std::process::id() {
        return Ok(());
    }
    let message = "the engine runs in the process that made it: threads do not survive a fork";
    Err(exception("EngineClosedError", message).into())
}
