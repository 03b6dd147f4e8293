//! Rotary positions, and keys and values on their way to the cache.

use super::attention::Cache;
use super::{Compiler, Element, check};
use crate::{Bindings, Dispatch, Gpu, Params, Result};

/// Threads of a head.
const THREADS: usize = 64;

/// Queries, keys and values of a token side by side in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeShape {
    /// Rows.
    pub tokens: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl RopeShape {
    /// Width of a row.
    pub fn stride(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
}

/// Rotates queries in place, and keys on their way to the cache, where the values go as well (arXiv
/// 2104.09864).
#[derive(Debug)]
pub struct Rope<G: Gpu> {
    pipeline: G::Pipeline,
}

impl<G: Gpu> Rope<G> {
    /// Compiles it for a cache of these elements, float32 or float16.
    pub fn new(compiler: &mut Compiler<'_, G>, element: Element) -> Result<Self> {
        Ok(Self { pipeline: compiler.pipeline(&format!("rope_store_{}", element.suffix()), &[], THREADS)? })
    }

    /// Takes `qkv`, `[tokens, shape.stride()]`. `table` is `[positions, head_dim]`: cosines, then sines.
    pub fn dispatch<'a>(
        &'a self,
        qkv: &'a G::Memory,
        table: &'a G::Memory,
        cache: &Cache<'a, G::Memory>,
        shape: RopeShape,
    ) -> Dispatch<'a, G> {
        let RopeShape { tokens, heads, kv_heads, head_dim } = shape;
        assert!(head_dim.is_multiple_of(2), "pairs of a head of {head_dim}");
        check("qkv", qkv, tokens, shape.stride(), shape.stride(), 4);
        check("table", table, 1, head_dim, head_dim, 4);
        cache.check(tokens, kv_heads * head_dim);
        let sizes = [heads, kv_heads, head_dim, shape.stride(), cache.table_stride];
        let Cache { keys, values, positions, sequences, page_table, .. } = *cache;
        Dispatch {
            pipeline: &self.pipeline,
            buffers: Bindings::new([qkv, table, positions, sequences, page_table, keys, values])
                .at(5, cache.layer_bytes.start)
                .at(6, cache.layer_bytes.start),
            params: Params::new(sizes.map(|size| size as u32)),
            threadgroups: [heads + 2 * kv_heads, tokens, 1],
            threads: THREADS,
            threadgroup_bytes: 0,
            waits: true,
        }
    }
}
