//! What runs the batches of an engine, and what takes over when it cannot.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::backend::{Backend, KvType, Limits, Session, Traffic, Work};
use crate::{Error, Result};

/// A session on the first of some backends that works.
pub(super) struct Device {
    /// The one in use, then those that have not been tried.
    backends: std::vec::IntoIter<Arc<dyn Backend>>,
    current: Arc<dyn Backend>,
    session: Box<dyn Session>,
    limits: Limits,
    kv_type: KvType,
    /// Of the sessions before.
    earlier: Traffic,
}

impl Device {
    /// Starts a session on the first backend that can.
    ///
    /// Errors: that of the last backend.
    pub(super) fn new(backends: Vec<Arc<dyn Backend>>, limits: Limits, kv_type: KvType) -> Result<Self> {
        let mut backends = backends.into_iter();
        let mut failure =
            Error::InvalidOption { name: "backends", expected: "at least one", got: "none".to_owned() };
        while let Some(current) = backends.next() {
            match current.open(limits, kv_type) {
                Ok(session) => {
                    let earlier = Traffic::default();
                    return Ok(Self { backends, current, session, limits, kv_type, earlier });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// What the session has room for.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn session(&mut self) -> &mut dyn Session {
        &mut *self.session
    }

    /// Runs a batch. A backend that panics has failed.
    pub(super) fn execute(&mut self, batch: &[Work<'_>]) -> Result<()> {
        let session = &mut self.session;
        catch_unwind(AssertUnwindSafe(|| session.execute(batch))).unwrap_or_else(|panic| {
            Err(Error::Backend { name: self.current.name().to_owned(), reason: message(&*panic) })
        })
    }

    /// Starts anew on the next backend that can; false when there is none, and all is as before.
    pub(super) fn fall_back(&mut self) -> bool {
        for backend in self.backends.by_ref() {
            if let Ok(session) = backend.open(self.limits, self.kv_type) {
                self.earlier = self.earlier + self.session.traffic();
                (self.current, self.session) = (backend, session);
                return true;
            }
        }
        false
    }

    /// What all sessions have read.
    pub(super) fn traffic(&self) -> Traffic {
        self.earlier + self.session.traffic()
    }
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.map_or_else(|| "it panicked".to_owned(), |text| format!("it panicked: {text}"))
}
