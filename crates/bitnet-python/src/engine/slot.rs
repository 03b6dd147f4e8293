//! The places of engines, and which of them have to be empty before the interpreter ends.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use pyo3::prelude::*;

use super::running::Running;

/// An engine until it is closed.
pub(super) type Slot = RwLock<Option<Running>>;

/// Engines whose threads enter the interpreter, to call a backend in Python.
static CALLING: Mutex<Vec<Weak<Slot>>> = Mutex::new(Vec::new());

/// Has the engine of a slot end before the interpreter does. A thread that comes back to an interpreter that ends is
/// unwound, and through the C++ of a backend such as MLX that aborts the process.
pub(super) fn end_before_interpreter(slot: &Arc<Slot>) {
    let mut slots = CALLING.lock().unwrap_or_else(PoisonError::into_inner);
    slots.retain(|slot| slot.strong_count() > 0);
    slots.push(Arc::downgrade(slot));
}

/// Ends those engines, and what still runs in them.
pub(super) fn end_all(py: Python<'_>) {
    py.detach(|| {
        let slots = std::mem::take(&mut *CALLING.lock().unwrap_or_else(PoisonError::into_inner));
        for slot in slots.iter().filter_map(Weak::upgrade) {
            let running = slot.write().unwrap_or_else(PoisonError::into_inner).take();
            drop(running);
        }
    });
}
