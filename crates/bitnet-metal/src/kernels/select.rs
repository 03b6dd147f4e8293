//! The largest logit.

use super::{Compiler, check};
use crate::{Bindings, Dispatch, Gpu, Params, Result};

/// Threads of a row.
const THREADS: usize = 512;

/// The place of the largest value of every row, the first of equals; one that is no number is larger than
/// all.
#[derive(Debug)]
pub struct Argmax<G: Gpu> {
    pipeline: G::Pipeline,
}

impl<G: Gpu> Argmax<G> {
    /// Compiles it.
    pub fn new(compiler: &mut Compiler<'_, G>) -> Result<Self> {
        Ok(Self { pipeline: compiler.pipeline("argmax", &[], THREADS)? })
    }

    /// Looks at `rows` rows of `cols` values. `ids` (u32) and `values` are `[rows]`.
    pub fn dispatch<'a>(
        &'a self,
        x: &'a G::Memory,
        rows: usize,
        cols: usize,
        ids: &'a G::Memory,
        values: &'a G::Memory,
    ) -> Dispatch<'a, G> {
        check("x", x, rows, cols, cols, 4);
        check("ids", ids, rows, 1, 1, 4);
        check("values", values, rows, 1, 1, 4);
        Dispatch {
            pipeline: &self.pipeline,
            buffers: Bindings::new([x, ids, values]),
            params: Params::new([cols as u32, cols as u32]),
            threadgroups: [rows, 1, 1],
            threads: THREADS,
            threadgroup_bytes: 0,
            waits: true,
        }
    }
}
