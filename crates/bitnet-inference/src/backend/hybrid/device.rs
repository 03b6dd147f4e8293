//! Devices that a model may be split over.

use std::fmt;
use std::sync::Arc;

use bitnet_core::ThreadPool;

use crate::Result;
use crate::backend::Backend;
use crate::backend::cpu::{CpuBackend, CpuOptions};
use crate::model::ModelPart;

type Prepare = dyn Fn(ModelPart) -> Result<Arc<dyn Backend>> + Send + Sync;

/// A device that can run some layers of a model.
pub struct HybridDevice {
    memory: usize,
    prepare: Box<Prepare>,
}

impl HybridDevice {
    /// A device with `memory` bytes for weights, keys and values, on which `prepare` makes a backend of some layers.
    pub fn new(
        memory: usize,
        prepare: impl Fn(ModelPart) -> Result<Arc<dyn Backend>> + Send + Sync + 'static,
    ) -> Self {
        Self { memory, prepare: Box::new(prepare) }
    }

    /// Threads of the CPU, with `memory` bytes for weights, keys and values.
    pub fn cpu(memory: usize, pool: Arc<ThreadPool>, options: CpuOptions) -> Self {
        Self::new(memory, move |part| Ok(Arc::new(CpuBackend::new(part, Arc::clone(&pool), &options)?)))
    }

    /// Bytes that weights, keys and values may take.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Makes a backend of some layers.
    pub fn prepare(&self, part: ModelPart) -> Result<Arc<dyn Backend>> {
        (self.prepare)(part)
    }
}

impl fmt::Debug for HybridDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridDevice").field("memory", &self.memory).finish_non_exhaustive()
    }
}
