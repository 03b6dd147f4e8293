//! Against a plain list, and with threads that want the same at the same time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

type Cache = SharedCache<usize, usize>;

const BUDGET: u64 = 8;

/// Sizes of the values by their keys; the last is beyond the budget.
const BYTES: [u64; 6] = [1, 2, 3, 4, 5, 9];

fn cache() -> Cache {
    Cache::new(ByteSize(BUDGET))
}

fn error() -> Error {
    Error::EmptyPrompt
}

#[derive(Debug, Clone)]
enum Action {
    /// Asks for a key and keeps the value.
    Get(usize),
    /// Lets go of every value of a key.
    Release(usize),
    Clear,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let key = || 0..BYTES.len();
    let action = prop_oneof![
        6 => key().prop_map(Action::Get),
        4 => key().prop_map(Action::Release),
        1 => Just(Action::Clear),
    ];
    proptest::collection::vec(action, 1..60)
}

/// The cache as one would write it down: keys by their last use, and whether somebody holds them.
#[derive(Default)]
struct Plain {
    keys: Vec<usize>,
    held: [bool; BYTES.len()],
    stats: ModelCacheStats,
}

impl Plain {
    /// Whether the key can be had.
    fn get(&mut self, key: usize) -> bool {
        if let Some(index) = self.keys.iter().position(|other| *other == key) {
            self.stats.hits += 1;
            self.keys.remove(index);
        } else {
            self.stats.misses += 1;
            let held: u64 = self.keys.iter().filter(|key| self.held[**key]).map(|key| BYTES[*key]).sum();
            if held + BYTES[key] > BUDGET {
                return false;
            }
            while self.bytes() + BYTES[key] > BUDGET {
                let oldest = self.keys.iter().position(|key| !self.held[*key]).unwrap();
                self.keys.remove(oldest);
                self.stats.evictions += 1;
            }
        }
        self.keys.push(key);
        self.held[key] = true;
        true
    }

    fn bytes(&self) -> u64 {
        self.keys.iter().map(|key| BYTES[*key]).sum()
    }

    fn stats(&self) -> ModelCacheStats {
        let (models, resident_bytes) = (self.keys.len() as u64, self.bytes());
        ModelCacheStats { models, resident_bytes, budget_bytes: BUDGET, ..self.stats }
    }
}

proptest! {
    #[test]
    fn it_keeps_what_a_plain_list_keeps(actions in actions()) {
        let (cache, mut plain) = (cache(), Plain::default());
        let mut held: Vec<Arc<usize>> = Vec::new();
        for action in actions {
            match action {
                Action::Get(key) => {
                    let expected = plain.get(key);
                    match cache.get(&key, || Ok((Arc::new(key), BYTES[key]))) {
                        Ok(value) => {
                            prop_assert!(expected && *value == key);
                            // Of a value in use there is never a second.
                            prop_assert!(held.iter().all(|other| **other != key || Arc::ptr_eq(other, &value)));
                            held.push(value);
                        }
                        Err(Error::ModelCacheFull { bytes, budget, in_use, .. }) => {
                            prop_assert!(!expected && in_use.bytes() + bytes.bytes() > budget.bytes());
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
                Action::Release(key) => {
                    held.retain(|value| **value != key);
                    plain.held[key] = false;
                }
                Action::Clear => {
                    cache.clear();
                    plain.keys.retain(|key| plain.held[*key]);
                }
            }
            prop_assert_eq!(cache.stats(), plain.stats());
            let keys: Vec<usize> = cache.lock().entries.iter().map(|entry| entry.key).collect();
            prop_assert_eq!(&keys, &plain.keys);
        }
    }
}

#[test]
fn many_who_want_the_same_wait_for_one_load() {
    let (cache, loads, start) = (cache(), AtomicUsize::new(0), Barrier::new(8));
    let get = || {
        start.wait();
        cache.get(&1, || {
            loads.fetch_add(1, SeqCst);
            thread::sleep(Duration::from_millis(20));
            Ok((Arc::new(7), 2))
        })
    };
    let values: Vec<Arc<usize>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(get)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
    });
    assert_eq!(loads.load(SeqCst), 1);
    assert!(values.iter().all(|value| Arc::ptr_eq(value, &values[0])));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.models, stats.resident_bytes), (7, 1, 1, 2));
}

/// Each load ends only when the other has begun.
#[test]
fn different_values_are_loaded_at_the_same_time() {
    let (cache, both) = (cache(), Barrier::new(2));
    let load = |key: usize| {
        let value = cache.get(&key, || {
            both.wait();
            Ok((Arc::new(key), 4))
        });
        assert_eq!(*value.unwrap(), key);
    };
    thread::scope(|scope| {
        scope.spawn(|| load(1));
        scope.spawn(|| load(2));
    });
    assert_eq!(cache.stats().models, 2);
}

/// Runs a load in another thread and `during` while it lasts, until one more waits for it; then ends it by `end`.
fn with_a_waiter<'a>(
    cache: &'a Cache,
    end: impl FnOnce() -> Result<(Arc<usize>, u64)> + Send,
    wait: impl FnOnce() -> Result<Arc<usize>> + Send + 'a,
) -> (thread::Result<Result<Arc<usize>>>, Result<Arc<usize>>) {
    let begun = Barrier::new(2);
    let is_awaited = || cache.lock().loads.iter().any(|(_, load)| Arc::strong_count(load) > 2);
    let load = || {
        begun.wait();
        while !is_awaited() {
            thread::yield_now();
        }
        end()
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| catch_unwind(AssertUnwindSafe(|| cache.get(&1, load))));
        begun.wait();
        let second = wait();
        (first.join().unwrap(), second)
    })
}

#[test]
fn a_failure_is_everybodys_and_the_next_tries_again() {
    let cache = cache();
    let (first, second) =
        with_a_waiter(&cache, || Err(error()), || cache.get(&1, || panic!("another is loading")));
    for result in [first.unwrap(), second] {
        assert!(matches!(&result, Err(Error::Shared(shared)) if matches!(**shared, Error::EmptyPrompt)));
        assert_eq!(result.unwrap_err().to_string(), error().to_string());
    }
    assert!(matches!(cache.get(&1, || Err(error())), Err(Error::EmptyPrompt)));
    assert_eq!(*cache.get(&1, || Ok((Arc::new(5), 1))).unwrap(), 5);
    assert_eq!((cache.stats().hits, cache.stats().misses), (0, 3));
}

#[test]
fn a_panic_leaves_nobody_waiting() {
    let cache = cache();
    let (first, second) =
        with_a_waiter(&cache, || panic!("in a load"), || cache.get(&1, || Ok((Arc::new(6), 1))));
    assert!(first.is_err());
    assert_eq!(*second.unwrap(), 6);
    assert_eq!(cache.stats().models, 1);
}
