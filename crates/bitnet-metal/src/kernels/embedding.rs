//! Rows of a table.

use super::{Compiler, check};
use crate::{Bindings, Dispatch, Gpu, Params, Result};

/// Columns of a threadgroup.
const COLUMNS: usize = 256;

/// The type of stored floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// float32.
    F32,
    /// float16.
    F16,
    /// bfloat16.
    BF16,
}

impl Element {
    /// What names of kernels end with.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
        }
    }

    /// Bytes of one.
    pub fn size_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

/// `out[t] = table[ids[t]] * scale`.
#[derive(Debug)]
pub struct Embedding<G: Gpu> {
    pipeline: G::Pipeline,
    element: Element,
}

impl<G: Gpu> Embedding<G> {
    /// Compiles it for a table of these elements.
    pub fn new(compiler: &mut Compiler<'_, G>, element: Element) -> Result<Self> {
        let pipeline = compiler.pipeline(&format!("embedding_{}", element.suffix()), &[], COLUMNS)?;
        Ok(Self { pipeline, element })
    }

    /// Gathers `count` rows of `cols` columns. `ids` are u32, and rows of the table: nobody checks that
    /// again.
    pub fn dispatch<'a>(
        &'a self,
        table: &'a G::Memory,
        ids: &'a G::Memory,
        scale: f32,
        count: usize,
        cols: usize,
        out: &'a G::Memory,
    ) -> Dispatch<'a, G> {
        check("ids", ids, count, 1, 1, 4);
        check("table", table, 1, cols, cols, self.element.size_bytes());
        check("out", out, count, cols, cols, 4);
        Dispatch {
            pipeline: &self.pipeline,
            buffers: Bindings::new([table, ids, out]),
            params: Params::new([cols as u32, scale.to_bits()]),
            threadgroups: [cols.div_ceil(COLUMNS), count, 1],
            threads: COLUMNS,
            threadgroup_bytes: 0,
            waits: true,
        }
    }
}
