//! What runs the batches of an engine, and what takes over when it cannot.

use std::sync::Arc;

use crate::backend::{Backend, KvType, Limits, Session, Traffic, Work, guard};
use crate::monitor::LayerTimes;
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
    layer_times: Arc<LayerTimes>,
}

impl Device {
    /// Starts a session on the first backend that can.
    ///
    /// Errors: that of the last backend.
    pub(super) fn new(
        backends: Vec<Arc<dyn Backend>>,
        limits: Limits,
        kv_type: KvType,
        layer_times: Arc<LayerTimes>,
    ) -> Result<Self> {
        let mut backends = backends.into_iter();
        let mut failure =
            Error::InvalidOption { name: "backends", expected: "at least one", got: "none".to_owned() };
        while let Some(current) = backends.next() {
            match current.open(limits, kv_type) {
                Ok(mut session) => {
                    session.set_layer_times(Arc::clone(&layer_times));
                    let earlier = Traffic::default();
                    return Ok(Self { backends, current, session, limits, kv_type, earlier, layer_times });
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
        let (name, session) = (self.current.name(), &mut self.session);
        guard(|| name.to_owned(), || session.execute(batch))
    }

    /// Starts anew on the next backend that can; false when there is none, and all is as before.
    pub(super) fn fall_back(&mut self) -> bool {
        for backend in self.backends.by_ref() {
            if let Ok(mut session) = backend.open(self.limits, self.kv_type) {
                session.set_layer_times(Arc::clone(&self.layer_times));
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
