//! The memory pool of the process.

use std::collections::BTreeMap;

use bitnet_core::HybridMemoryPool;
use pyo3::prelude::*;

/// The memory of tensors and weights at a moment, in blocks as long as they are.
#[pyclass(frozen, get_all, module = "bitnet_rust")]
pub(crate) struct MemoryStats {
    /// Bytes in use.
    live_bytes: usize,
    /// Bytes in use at most, ever; small blocks that threads keep, up to 1 MiB each, count as used.
    peak_bytes: usize,
    /// Bytes that the system has given and not got back.
    held_bytes: usize,
    /// Blocks that were served from what was held, ever.
    reused_blocks: u64,
    /// Bytes given back to the system, ever.
    returned_bytes: usize,
    /// (held - live) / held; 0 where nothing is held.
    fragmentation: f64,
    /// How many blocks of each length in bytes are in use.
    live_blocks: BTreeMap<usize, u64>,
}

#[pymethods]
impl MemoryStats {
    fn __repr__(&self) -> String {
        format!(
            "MemoryStats(live {} bytes, held {} bytes, peak {} bytes)",
            self.live_bytes, self.held_bytes, self.peak_bytes
        )
    }
}

/// The memory of tensors and weights now.
#[pyfunction]
pub(crate) fn memory_stats(py: Python<'_>) -> MemoryStats {
    let (stats, live) = py.detach(|| {
        let pool = HybridMemoryPool::global();
        (pool.stats(), pool.live_blocks())
    });
    MemoryStats {
        fragmentation: stats.fragmentation(),
        live_bytes: stats.live_bytes,
        peak_bytes: stats.peak_bytes,
        held_bytes: stats.held_bytes,
        reused_blocks: stats.reused_blocks,
        returned_bytes: stats.returned_bytes,
        live_blocks: live.0.into_iter().collect(),
    }
}

/// Gives memory that nobody uses back to the system, and returns how many bytes.
#[pyfunction]
pub(crate) fn memory_trim(py: Python<'_>) -> usize {
    py.detach(|| HybridMemoryPool::global().trim())
}
