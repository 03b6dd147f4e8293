//! The kernels of `metal/`, one typed function each, which checks shapes and makes a
//! [`Dispatch`](crate::Dispatch).
//!
//! Matrices are row-major, `[rows, columns]` float32 unless said. Strides are in elements.

mod attention;
mod embedding;
mod float_product;
mod norm;
mod quantize;
mod rope;
mod select;
mod ternary_product;

use std::collections::HashMap;

pub use attention::{Attention, AttentionShape, Cache, Decode, PAGE, Partials, Prefill};
pub use embedding::{Element, Embedding};
pub use float_product::{FloatProduct, FloatWeights};
pub use norm::{Norm, NormShape};
pub use quantize::{Gate, Quantize, Quantized};
pub use rope::{Rope, RopeShape};
pub use select::Argmax;
pub use ternary_product::{TernaryProduct, TernaryWeights};

use crate::{Constant, ConstantValue, Gpu, Memory, Result};

/// A kernel by its name, with the indices and values of its constants.
type Key = (String, Vec<(u32, u64)>);

/// Compiles kernels, each once.
#[derive(Debug)]
pub struct Compiler<'g, G: Gpu> {
    gpu: &'g G,
    pipelines: HashMap<Key, G::Pipeline>,
}

impl<'g, G: Gpu> Compiler<'g, G> {
    /// A compiler for a device, with nothing compiled yet.
    pub fn new(gpu: &'g G) -> Self {
        Self { gpu, pipelines: HashMap::new() }
    }

    /// The kernel of this name with these constants, for threadgroups of `threads` threads.
    fn pipeline(&mut self, name: &str, constants: &[Constant], threads: usize) -> Result<G::Pipeline> {
        let key =
            (name.to_owned(), constants.iter().map(|constant| (constant.index, constant.bits())).collect());
        if let Some(pipeline) = self.pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = self.gpu.pipeline(name, constants, threads)?;
        self.pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }
}

/// Function constants of `metal/`.
fn has_bias(value: bool) -> Constant {
    Constant { index: 0, value: ConstantValue::Bool(value) }
}

fn accumulates(value: bool) -> Constant {
    Constant { index: 1, value: ConstantValue::Bool(value) }
}

fn has_norm(value: bool) -> Constant {
    Constant { index: 2, value: ConstantValue::Bool(value) }
}

fn gate(value: u32) -> Constant {
    Constant { index: 3, value: ConstantValue::U32(value) }
}

fn has_row_scales(value: bool) -> Constant {
    Constant { index: 4, value: ConstantValue::Bool(value) }
}

/// Panics unless a matrix of `rows` rows fits: the last row may end before its stride does.
#[track_caller]
fn check<M: Memory>(what: &str, memory: &M, rows: usize, stride: usize, cols: usize, element_bytes: usize) {
    let needed = if rows == 0 { 0 } else { ((rows - 1) * stride + cols) * element_bytes };
    assert!(cols <= stride, "{what}: rows of {cols} in a stride of {stride}");
    assert!(needed <= memory.size_bytes(), "{what}: {needed} bytes of {}", memory.size_bytes());
}

#[cfg(test)]
mod tests;
