//! Causal attention over a paged cache.

use std::ops::Range;

use super::{Compiler, Element, check};
use crate::{Bindings, Dispatch, Gpu, Memory, Params, Result};

/// Threads of a threadgroup.
const THREADS: usize = 128;

/// Positions of a page.
pub const PAGE: usize = 64;

/// Queries that a threadgroup can take, in the variants there are.
const QUERIES: [usize; 2] = [4, 8];

/// What surrounds one layer of the cache of keys and values: `[pages, kv_heads, PAGE, head_dim]` each.
#[derive(Debug)]
pub struct Cache<'a, M> {
    /// The keys of all layers.
    pub keys: &'a M,
    /// The values of all layers.
    pub values: &'a M,
    /// The bytes of the layer in each of the two.
    pub layer_bytes: Range<usize>,
    /// Of every row, u32.
    pub positions: &'a M,
    /// Which row of the page table every row has, u32.
    pub sequences: &'a M,
    /// Pages by their positions, `[sequences, table_stride]`, u32.
    pub page_table: &'a M,
    /// Entries of a sequence in the page table.
    pub table_stride: usize,
}

impl<M: Memory> Cache<'_, M> {
    pub(super) fn check(&self, rows: usize, width: usize) {
        let Range { start, end } = self.layer_bytes;
        assert!(
            start <= end && end <= self.keys.size_bytes().min(self.values.size_bytes()),
            "a layer of the cache"
        );
        assert!((end - start).is_multiple_of(PAGE * width), "whole pages of a layer");
        check("positions", self.positions, rows, 1, 1, 4);
        check("sequences", self.sequences, rows, 1, 1, 4);
        check("page table", self.page_table, 1, self.table_stride, self.table_stride, 4);
    }
}

/// Heads, and what they see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// From the queries of one row to those of the next.
    pub q_stride: usize,
    /// Positions that a token sees at most; `None` for all.
    pub window: Option<usize>,
    /// Factor of the scores.
    pub scale: f32,
}

impl AttentionShape {
    /// Variant of the kernels, query heads that go together, and groups of those for a key head.
    pub(super) fn tiling(&self) -> (usize, usize, usize) {
        let shared = self.heads / self.kv_heads;
        let variant = usize::from(shared > QUERIES[0]);
        let together = shared.min(QUERIES[variant]);
        (variant, together, shared.div_ceil(together))
    }

    /// Tokens of one sequence that [`Prefill`] takes together.
    pub fn tile_tokens(&self) -> usize {
        let (_, together, _) = self.tiling();
        (QUERIES[1] / together).max(1)
    }

    fn out_stride(&self) -> usize {
        self.heads * self.head_dim
    }

    fn threadgroup_bytes(&self, queries: usize) -> usize {
        queries * (self.head_dim + PAGE) * 4
    }

    fn params(&self, table_stride: usize, pages: usize, tile_heads: usize) -> Params {
        let sizes = [
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.q_stride,
            self.out_stride(),
            table_stride,
            pages,
            self.window.unwrap_or(0),
            tile_heads,
        ];
        let mut words = [0; 10];
        words.iter_mut().zip(sizes).for_each(|(word, size)| *word = size as u32);
        words[9] = self.scale.to_bits();
        Params::new(words)
    }

    fn check<M: Memory>(&self, q: &M, cache: &Cache<'_, M>, out: &M, rows: usize) {
        let width = self.out_stride();
        assert!(self.heads.is_multiple_of(self.kv_heads), "{} heads for {}", self.heads, self.kv_heads);
        assert!(self.head_dim.is_multiple_of(4) && self.head_dim <= 256, "heads of {}", self.head_dim);
        check("queries", q, rows, self.q_stride, width, 4);
        check("out", out, rows, width, width, 4);
        cache.check(rows, self.kv_heads * self.head_dim);
    }
}

/// Attention, for few tokens and for many. Any token gets the same bits from both: its pages are taken one by
/// one, and put together in their order.
#[derive(Debug)]
pub struct Attention<G: Gpu> {
    /// By the number of queries of a threadgroup.
    decode: [G::Pipeline; 2],
    merge: G::Pipeline,
    prefill: G::Pipeline,
}

/// What a threadgroup leaves of each page, for all to be put together.
#[derive(Debug)]
pub struct Partials<M> {
    out: M,
    stats: M,
}

/// Few tokens: every page has threadgroups of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decode {
    /// Rows.
    pub tokens: usize,
    /// The most pages of a row.
    pub pages: usize,
}

/// Many tokens: threadgroups walk through the pages of a tile of tokens.
#[derive(Debug)]
pub struct Prefill<'a, M> {
    /// Rows.
    pub tokens: usize,
    /// `[count, 2]`, u32: the first row of each tile, and how many rows follow it: at most
    /// [`AttentionShape::tile_tokens`], of one sequence, and side by side in it.
    pub tiles: &'a M,
    /// Number of tiles.
    pub count: usize,
}

impl<M> Partials<M> {
    /// Floats of a row of `heads` heads over `pages` pages.
    pub fn row_floats(heads: usize, head_dim: usize, pages: usize) -> usize {
        heads * pages * (head_dim + 2)
    }

    /// Room for `tokens` rows.
    ///
    /// Errors: [`crate::Error::OutOfMemory`].
    pub fn new<G: Gpu<Memory = M>>(
        gpu: &G,
        tokens: usize,
        heads: usize,
        head_dim: usize,
        pages: usize,
    ) -> Result<Self> {
        let parts = tokens * heads * pages;
        Ok(Self { out: gpu.allocate(parts * head_dim * 4)?, stats: gpu.allocate(parts * 2 * 4)? })
    }
}

impl<G: Gpu> Attention<G> {
    /// Compiles it for a cache of these elements, float32 or float16.
    pub fn new(compiler: &mut Compiler<'_, G>, element: Element) -> Result<Self> {
        let [few, more] = QUERIES;
        let mut compile = |stage, queries| {
            compiler.pipeline(&format!("attention_{stage}_{}_q{queries}", element.suffix()), &[], THREADS)
        };
        let (decode, prefill) =
            ([compile("decode", few)?, compile("decode", more)?], compile("prefill", more)?);
        Ok(Self { decode, merge: compiler.pipeline("attention_merge", &[], THREADS)?, prefill })
    }

    /// The two dispatches of few tokens, one after the other. `q` and `out` are `[tokens, shape.q_stride]`
    /// and `[tokens, heads * head_dim]`.
    pub fn decode<'a>(
        &'a self,
        q: &'a G::Memory,
        cache: &Cache<'a, G::Memory>,
        shape: &AttentionShape,
        Decode { tokens, pages }: Decode,
        partials: &'a Partials<G::Memory>,
        out: &'a G::Memory,
    ) -> [Dispatch<'a, G>; 2] {
        shape.check(q, cache, out, tokens);
        let parts = tokens * shape.heads * pages;
        check("partial results", &partials.out, parts, shape.head_dim, shape.head_dim, 4);
        check("partial statistics", &partials.stats, parts, 2, 2, 4);
        let (variant, together, groups) = shape.tiling();
        let params = shape.params(cache.table_stride, pages, together);
        let Cache { keys, values, positions, sequences, page_table, .. } = *cache;
        let parts = Dispatch {
            pipeline: &self.decode[variant],
            buffers: Bindings::new([
                q,
                keys,
                values,
                positions,
                sequences,
                page_table,
                &partials.out,
                &partials.stats,
            ])
            .at(1, cache.layer_bytes.start)
            .at(2, cache.layer_bytes.start),
            params,
            threadgroups: [pages, shape.kv_heads * groups, tokens],
            threads: THREADS,
            threadgroup_bytes: shape.threadgroup_bytes(QUERIES[variant]),
            waits: true,
        };
        let merge = Dispatch {
            pipeline: &self.merge,
            buffers: Bindings::new([&partials.out, &partials.stats, positions, out]),
            params,
            threadgroups: [shape.heads.div_ceil(THREADS / 32), tokens, 1],
            threads: THREADS,
            threadgroup_bytes: 0,
            waits: true,
        };
        [parts, merge]
    }

    /// Many tokens. `q` and `out` as for [`Self::decode`].
    pub fn prefill<'a>(
        &'a self,
        q: &'a G::Memory,
        cache: &Cache<'a, G::Memory>,
        shape: &AttentionShape,
        Prefill { tokens, tiles, count }: Prefill<'a, G::Memory>,
        out: &'a G::Memory,
    ) -> Dispatch<'a, G> {
        shape.check(q, cache, out, tokens);
        check("tiles", tiles, count, 2, 2, 4);
        let (_, together, groups) = shape.tiling();
        let Cache { keys, values, positions, sequences, page_table, .. } = *cache;
        Dispatch {
            pipeline: &self.prefill,
            buffers: Bindings::new([q, keys, values, positions, sequences, page_table, tiles, out])
                .at(1, cache.layer_bytes.start)
                .at(2, cache.layer_bytes.start),
            params: shape.params(cache.table_stride, 0, together),
            threadgroups: [count, shape.kv_heads * groups, 1],
            threads: THREADS,
            threadgroup_bytes: shape.threadgroup_bytes(QUERIES[1]),
            waits: true,
        }
    }
}
