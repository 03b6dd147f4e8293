//! Inputs of linears as int8.

use std::cell::Cell;
use std::sync::Arc;

use bitnet_core::{HybridMemoryPool, PoolVec, Tensor};
use bitnet_quant::QuantizedActivations;

use super::Variable;
use super::floats::{Compute, by_rows, elements, uncleared};
use super::variable::is_recording;
use crate::{Error, Result};

/// An input of several linears, quantized once.
#[derive(Debug)]
pub struct QuantizedInput {
    pub(super) x: Variable,
    /// As the kernels read it, until the forward pass is over.
    pub(super) quantized: QuantizedActivations,
    /// As the backward pass reads it, where there will be one.
    codes: Option<Arc<Codes>>,
}

/// `codes / scale` of `[tokens, cols]`.
#[derive(Debug)]
pub(super) struct Codes {
    values: PoolVec<i8>,
    scales: PoolVec<f32>,
    cols: usize,
}

thread_local! {
    /// Memory of the last input, for the next.
    static SPARE: Cell<QuantizedActivations> = Cell::default();
}

impl QuantizedInput {
    /// Absmax int8 of every token; `x` is `[.., width]`.
    ///
    /// Errors: [`bitnet_core::Error::Empty`], [`bitnet_core::Error::OutOfMemory`].
    pub fn new(x: &Variable) -> Result<Self> {
        let value = x.value();
        let width = match value.dims().last() {
            Some(&width) if !value.is_empty() => width,
            _ => {
                let (operation, shape) = ("int8 codes", value.shape().clone());
                return Err(Error::Core(bitnet_core::Error::Empty { operation, shape }));
            }
        };
        let compute = Compute::new()?;
        let mut quantized = SPARE.take();
        quantized.quantize(&compute.pool, &compute.kernels, &elements(&value)?, width);
        let codes = is_recording().then(|| Codes::new(&compute, &quantized)).transpose()?.map(Arc::new);
        Ok(Self { x: x.clone(), quantized, codes })
    }

    pub(super) fn codes(&self) -> Result<Arc<Codes>> {
        match &self.codes {
            Some(codes) => Ok(Arc::clone(codes)),
            None => Ok(Arc::new(Codes::new(&Compute::new()?, &self.quantized)?)),
        }
    }
}

impl Drop for QuantizedInput {
    fn drop(&mut self) {
        SPARE.set(std::mem::take(&mut self.quantized));
    }
}

impl Codes {
    pub(super) fn new(compute: &Compute, quantized: &QuantizedActivations) -> Result<Self> {
        let (tokens, cols) = (quantized.tokens(), quantized.cols());
        let mut values = HybridMemoryPool::global().uncleared(tokens * cols)?;
        let mut scales = uncleared(tokens)?;
        compute.pool.split_rows(&mut values, cols, |tokens, values| {
            for (token, values) in tokens.zip(values.chunks_exact_mut(cols)) {
                values.copy_from_slice(quantized.token(token));
            }
        });
        scales.copy_from_slice(quantized.scales());
        Ok(Self { values, scales, cols })
    }

    /// `Q(x)`, `[tokens, cols]`.
    pub(super) fn dequantized(&self, compute: &Compute) -> Result<Tensor> {
        by_rows(compute, &[self.scales.len(), self.cols].into(), self.cols, |first, out| {
            let rows =
                out.chunks_exact_mut(self.cols).zip(self.values[first * self.cols..].chunks_exact(self.cols));
            for ((out, codes), scale) in rows.zip(&self.scales[first..]) {
                out.iter_mut().zip(codes).for_each(|(out, code)| *out = f32::from(*code) / scale);
            }
        })
    }
}
