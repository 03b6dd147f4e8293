//! Events counted by their kind.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::generate::FinishReason;

/// An enum without data, by whose values events are counted. See `kinds!`.
pub trait Kind: Copy + 'static {
    /// Every value, in the order of [`Self::index`].
    const ALL: &'static [Self];

    /// Which of [`Self::ALL`] it is.
    fn index(self) -> usize;

    /// Name in reports and labels.
    fn name(self) -> &'static str;
}

/// Implements [`Kind`] from the values in the order of their declaration. One that is left out does not compile.
macro_rules! kinds {
    ($kind:ident { $($value:ident => $name:literal,)+ }) => {
        impl $crate::monitor::Kind for $kind {
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn index(self) -> usize {
                self as usize
            }

            fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $name,)+
                }
            }
        }
    };
}
pub(super) use kinds;

kinds!(FinishReason {
    Stop => "stop",
    Length => "length",
    Cancelled => "cancelled",
    Deadline => "deadline",
});

/// A counter for every kind.
#[derive(Debug)]
pub(super) struct Tally<K> {
    counters: Box<[AtomicU64]>,
    kind: PhantomData<K>,
}

impl<K: Kind> Tally<K> {
    pub(super) fn new() -> Self {
        Self { counters: K::ALL.iter().map(|_| AtomicU64::new(0)).collect(), kind: PhantomData }
    }

    pub(super) fn add(&self, kind: K) {
        self.counters[kind.index()].fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> Counts<K> {
        Counts(K::ALL.iter().zip(&self.counters).map(|(kind, count)| (*kind, count.load(Relaxed))).collect())
    }
}

/// How many events there were of each kind. Serialized as numbers by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts<K>(Vec<(K, u64)>);

impl<K: Kind> Counts<K> {
    /// Those of one kind.
    pub fn of(&self, kind: K) -> u64 {
        self.0[kind.index()].1
    }

    /// Those of all kinds.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Every kind with its number.
    pub fn iter(&self) -> impl Iterator<Item = (K, u64)> + '_ {
        self.0.iter().copied()
    }
}

impl<K: Kind> Serialize for Counts<K> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (kind, count) in self.iter() {
            map.serialize_entry(kind.name(), &count)?;
        }
        map.end()
    }
}
