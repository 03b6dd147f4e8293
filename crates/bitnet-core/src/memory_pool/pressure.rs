//! Who is called before the pool grows beyond some size.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::shared::Shared;

/// A pool is about to hold more than a listener allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPressure {
    /// Bytes held now.
    pub held_bytes: usize,
    /// Bytes that the pool is about to ask of the system.
    pub wanted_bytes: usize,
    /// What the listener allows.
    pub allowed_bytes: usize,
}

type Call = dyn Fn(&MemoryPressure) + Send + Sync;

struct Listener {
    id: u64,
    allowed: usize,
    call: Arc<Call>,
}

/// The listeners of a pool.
pub(super) struct Listeners {
    all: Mutex<Vec<Listener>>,
    /// What the strictest allows, to be read without the lock.
    least: AtomicUsize,
    next: AtomicU64,
}

thread_local! {
    /// What a listener takes from the pool calls no listener.
    static CALLING: Cell<bool> = const { Cell::new(false) };
}

/// Ends the calls, also when a listener panics.
struct Calling;

impl Drop for Calling {
    fn drop(&mut self) {
        CALLING.set(false);
    }
}

impl Listeners {
    pub(super) fn new() -> Self {
        Self { all: Mutex::default(), least: AtomicUsize::new(usize::MAX), next: AtomicU64::new(0) }
    }

    fn add(&self, allowed: usize, call: Arc<Call>) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.change(|all| all.push(Listener { id, allowed, call }));
        id
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Listener>)) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut all);
        let least = all.iter().map(|listener| listener.allowed).min();
        self.least.store(least.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// Calls those that allow less than `held + wanted` bytes, and says whether there were any. No lock is held meanwhile.
    pub(super) fn call(&self, held: usize, wanted: usize) -> bool {
        let grown = held.saturating_add(wanted);
        if grown <= self.least.load(Ordering::Relaxed) || CALLING.replace(true) {
            return false;
        }
        let _calling = Calling;
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let called = all.iter().filter(|listener| listener.allowed < grown);
        let called: Vec<_> = called.map(|listener| (listener.allowed, Arc::clone(&listener.call))).collect();
        drop(all);
        for (allowed_bytes, call) in &called {
            call(&MemoryPressure { held_bytes: held, wanted_bytes: wanted, allowed_bytes: *allowed_bytes });
        }
        !called.is_empty()
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").field("least", &self.least).finish_non_exhaustive()
    }
}

/// A listener, which is called until this is dropped.
#[derive(Debug)]
#[must_use = "a listener is called until this is dropped"]
pub struct PressureListener {
    pool: Weak<Shared>,
    id: u64,
}

impl PressureListener {
    pub(super) fn new(pool: &Arc<Shared>, allowed: usize, call: Arc<Call>) -> Self {
        Self { id: pool.listeners.add(allowed, call), pool: Arc::downgrade(pool) }
    }
}

impl Drop for PressureListener {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.listeners.change(|all| all.retain(|listener| listener.id != self.id));
        }
    }
}
