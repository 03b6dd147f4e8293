//! Several models by name, within a budget of memory.

pub(crate) mod metrics;
mod shared_cache;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitnet_core::ByteSize;
use serde::Serialize;

use self::shared_cache::SharedCache;
use crate::monitor::span;
use crate::{LoadOptions, LoadedModel, Result};

/// Models that stay in memory between their uses. Threads may share it.
///
/// The least recently used one gives way when another is loaded; one that is in use, of which there is an [`Arc`] outside,
/// never does. Threads that ask for the same model wait for one load of it; different ones are loaded at the same time.
///
/// The size of a model is that of its weights as they are kept to run it, [`crate::backend::Backend::weight_bytes`]; what
/// sessions and the tokenizer take comes on top. It is known once the model is loaded, so memory holds that model beside
/// those that then give way.
#[derive(Debug)]
pub struct ModelCache {
    models: SharedCache<Key, LoadedModel>,
}

/// The same model with other options is another one.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    /// The file or folder without links and detours, else the name as given; `None` for the embedded model.
    model: Option<PathBuf>,
    options: LoadOptions,
}

/// Figures of a [`ModelCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ModelCacheStats {
    /// Calls that found their model, or waited for the load of another.
    pub hits: u64,
    /// Calls that had to load it.
    pub misses: u64,
    /// Models that gave way to others.
    pub evictions: u64,
    /// Models in memory.
    pub models: u64,
    /// Bytes of their weights as the backend keeps them.
    pub resident_bytes: u64,
    /// Bytes they may have.
    pub budget_bytes: u64,
}

impl ModelCache {
    /// An empty cache for models of at most `budget` together.
    pub fn new(budget: ByteSize) -> Self {
        Self { models: SharedCache::new(budget) }
    }

    /// The model that [`LoadedModel::load`] gives, loaded unless it is there.
    ///
    /// Errors: those of [`LoadedModel::load`], in [`crate::Error::Shared`] where several waited for the same load;
    /// [`crate::Error::ModelCacheFull`] for a model that does not fit beside those in use. The next call tries again.
    pub fn get(&self, model: Option<&str>, options: &LoadOptions) -> Result<Arc<LoadedModel>> {
        let place = |name| Path::new(name).canonicalize().unwrap_or_else(|_| PathBuf::from(name));
        let key = Key { model: model.map(place), options: options.clone() };
        self.models.get(&key, || {
            let _span = span::load(&key.to_string());
            let model = LoadedModel::load(model, options)?;
            let bytes = model.backend().weight_bytes() as u64;
            Ok((model, bytes))
        })
    }

    /// Gives up every model that is not in use.
    pub fn clear(&self) {
        self.models.clear();
    }

    /// Figures as of now.
    pub fn stats(&self) -> ModelCacheStats {
        self.models.stats()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.model {
            Some(model) => model.display().fmt(f),
            None => f.write_str("the embedded model"),
        }
    }
}

#[cfg(test)]
mod tests;
