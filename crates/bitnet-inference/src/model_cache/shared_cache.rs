//! Values that are loaded once for all who ask, and given up by least recent use.
//!
//! One mutex guards the lists and is never held during a load or a drop. A load that runs is an entry of its own; who finds
//! it waits for its end.

use std::fmt::Display;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bitnet_core::ByteSize;

use super::ModelCacheStats;
use crate::{Error, Result};

/// Values by key, of at most `budget` bytes together.
#[derive(Debug)]
pub(super) struct SharedCache<K, V> {
    budget: ByteSize,
    state: Mutex<State<K, V>>,
}

#[derive(Debug)]
struct State<K, V> {
    /// The least recently used first.
    entries: Vec<Entry<K, V>>,
    loads: Vec<(K, Arc<Load<V>>)>,
    hits: u64,
    misses: u64,
    evictions: u64,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: Arc<V>,
    bytes: u64,
}

impl<K, V> Entry<K, V> {
    /// The cache has one reference; only it could give out another, under its mutex.
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.value) > 1
    }
}

/// A load that others may wait for.
#[derive(Debug)]
struct Load<V> {
    progress: Mutex<Progress<V>>,
    ended: Condvar,
}

#[derive(Debug)]
enum Progress<V> {
    Running,
    Loaded(Arc<V>),
    Failed(Arc<Error>),
    /// It panicked: whoever waited may try for himself.
    Abandoned,
}

/// What a key leads to.
enum Found<V> {
    Value(Arc<V>),
    /// Another's load.
    Load(Arc<Load<V>>),
    /// A load that is now the caller's.
    Nothing(Arc<Load<V>>),
}

impl<K: Clone + PartialEq + Display, V> SharedCache<K, V> {
    pub(super) fn new(budget: ByteSize) -> Self {
        let state = State { entries: Vec::new(), loads: Vec::new(), hits: 0, misses: 0, evictions: 0 };
        Self { budget, state: Mutex::new(state) }
    }

    /// The value of `key`; where it is not there, what `load` gives, with its size in bytes.
    ///
    /// Errors: those of `load`; [`Error::ModelCacheFull`] for a value that does not fit beside those in use.
    pub(super) fn get(&self, key: &K, load: impl FnOnce() -> Result<(Arc<V>, u64)>) -> Result<Arc<V>> {
        loop {
            let found = self.lock().look_up(key);
            match found {
                Found::Value(value) => return Ok(value),
                Found::Load(other) => match other.wait() {
                    Some(Ok(value)) => {
                        self.lock().hits += 1;
                        return Ok(value);
                    }
                    Some(Err(error)) => return Err(Error::Shared(error)),
                    None => {}
                },
                Found::Nothing(own) => return self.load(key, own, load),
            }
        }
    }

    pub(super) fn clear(&self) {
        let given_up = self.lock().entries.extract_if(.., |entry| !entry.is_in_use()).collect::<Vec<_>>();
        drop(given_up);
    }

    pub(super) fn stats(&self) -> ModelCacheStats {
        let state = self.lock();
        ModelCacheStats {
            hits: state.hits,
            misses: state.misses,
            evictions: state.evictions,
            models: state.entries.len() as u64,
            resident_bytes: state.bytes(|_| true),
            budget_bytes: self.budget.bytes(),
        }
    }

    fn load(
        &self,
        key: &K,
        own: Arc<Load<V>>,
        load: impl FnOnce() -> Result<(Arc<V>, u64)>,
    ) -> Result<Arc<V>> {
        let turn = Turn { cache: self, load: own };
        let loaded = load().and_then(|(value, bytes)| {
            self.admit(key, &value, bytes)?;
            Ok(value)
        });
        match loaded {
            Ok(value) => {
                turn.load.end(Progress::Loaded(Arc::clone(&value)));
                Ok(value)
            }
            Err(error) => {
                let error = Arc::new(error);
                turn.load.end(Progress::Failed(Arc::clone(&error)));
                drop(turn);
                // As it is, where nobody waited.
                Err(Arc::try_unwrap(error).unwrap_or_else(Error::Shared))
            }
        }
    }

    /// Takes a value in; as many as must give way to it, if that is enough.
    fn admit(&self, key: &K, value: &Arc<V>, bytes: u64) -> Result<()> {
        let mut given_up = Vec::new();
        let mut state = self.lock();
        let in_use = state.bytes(Entry::is_in_use);
        if in_use.saturating_add(bytes) > self.budget.bytes() {
            let (bytes, in_use) = (ByteSize(bytes), ByteSize(in_use));
            return Err(Error::ModelCacheFull { model: key.to_string(), bytes, budget: self.budget, in_use });
        }
        while state.bytes(|_| true).saturating_add(bytes) > self.budget.bytes() {
            // Those in use leave room for it, so that there is another.
            let Some(oldest) = state.entries.iter().position(|entry| !entry.is_in_use()) else { break };
            given_up.push(state.entries.remove(oldest));
            state.evictions += 1;
        }
        state.entries.push(Entry { key: key.clone(), value: Arc::clone(value), bytes });
        drop(state);
        drop(given_up);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        // No panic leaves the lists half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + PartialEq, V> State<K, V> {
    fn look_up(&mut self, key: &K) -> Found<V> {
        if let Some(index) = self.entries.iter().position(|entry| entry.key == *key) {
            self.entries[index..].rotate_left(1);
            self.hits += 1;
            return Found::Value(Arc::clone(&self.entries[self.entries.len() - 1].value));
        }
        if let Some((_, load)) = self.loads.iter().find(|(other, _)| other == key) {
            return Found::Load(Arc::clone(load));
        }
        self.misses += 1;
        let load = Arc::new(Load { progress: Mutex::new(Progress::Running), ended: Condvar::new() });
        self.loads.push((key.clone(), Arc::clone(&load)));
        Found::Nothing(load)
    }

    fn bytes(&self, counts: impl Fn(&Entry<K, V>) -> bool) -> u64 {
        self.entries.iter().filter(|entry| counts(entry)).map(|entry| entry.bytes).sum()
    }
}

impl<V> Load<V> {
    /// What became of it; `None` where nothing did.
    fn wait(&self) -> Option<Result<Arc<V>, Arc<Error>>> {
        let is_running = |progress: &mut Progress<V>| matches!(progress, Progress::Running);
        match &*self.ended.wait_while(self.lock(), is_running).unwrap_or_else(PoisonError::into_inner) {
            Progress::Loaded(value) => Some(Ok(Arc::clone(value))),
            Progress::Failed(error) => Some(Err(Arc::clone(error))),
            Progress::Running | Progress::Abandoned => None,
        }
    }

    fn end(&self, progress: Progress<V>) {
        *self.lock() = progress;
        self.ended.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Progress<V>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of the one who loads: at its end, be it a panic, nobody waits any more.
struct Turn<'a, K: Clone + PartialEq + Display, V> {
    cache: &'a SharedCache<K, V>,
    load: Arc<Load<V>>,
}

impl<K: Clone + PartialEq + Display, V> Drop for Turn<'_, K, V> {
    fn drop(&mut self) {
        self.cache.lock().loads.retain(|(_, load)| !Arc::ptr_eq(load, &self.load));
        if matches!(*self.load.lock(), Progress::Running) {
            self.load.end(Progress::Abandoned);
        }
    }
}

#[cfg(test)]
mod tests;
