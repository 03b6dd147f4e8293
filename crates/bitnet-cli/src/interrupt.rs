//! Ctrl-C: a flag that long work looks at between its steps.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;

static PRESSED: AtomicBool = AtomicBool::new(false);

/// Takes Ctrl-C over from whoever handles it now, for the rest of the process. A second press ends the process at
/// once, in case the first is not looked at.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let handler = || {
            if PRESSED.swap(true, Ordering::Relaxed) {
                std::process::exit(i32::from(Failure::Interrupted.status()));
            }
        };
        // Without a handler Ctrl-C still ends the process, only less cleanly.
        drop(ctrlc::set_handler(handler));
    });
}

/// Whether Ctrl-C was pressed.
pub(crate) fn is_pressed() -> bool {
    PRESSED.load(Ordering::Relaxed)
}

/// An error once Ctrl-C was pressed.
pub(crate) fn check() -> Result<(), Failure> {
    if is_pressed() { Err(Failure::Interrupted) } else { Ok(()) }
}
