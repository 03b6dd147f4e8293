//! The linears of a block: ternary, or ordinary ones where the config exempts them or the model is in full precision; trained,
//! or with an adapter that is.

use std::cell::OnceCell;

use super::AdaptedLinear;
use crate::autograd::{Estimator, QuantizedInput};
use crate::nn::{BitLinear, Linear, Module, Parameter};
use crate::{Result, Variable};

/// A linear of a block.
#[derive(Debug, Clone)]
pub enum Projection {
    /// Ternary in the forward pass.
    Bit(BitLinear),
    /// An ordinary linear.
    Float(Linear),
    /// One that stays as it is, whose adapter is trained.
    Adapted(AdaptedLinear),
}

impl Projection {
    /// `[tokens, outputs]`. Errors: those of [`crate::autograd::bit_linear`].
    pub fn forward(&self, input: &ProjectionInput, estimator: Estimator) -> Result<Variable> {
        match self {
            Self::Bit(linear) => linear.forward_quantized(input.quantized()?, estimator),
            Self::Float(linear) => linear.forward(&input.x),
            Self::Adapted(linear) => linear.forward(input),
        }
    }
}

impl Module for Projection {
    fn parameters(&self) -> Vec<Parameter> {
        match self {
            Self::Bit(linear) => linear.parameters(),
            Self::Float(linear) => linear.parameters(),
            Self::Adapted(linear) => linear.parameters(),
        }
    }
}

/// The input of several projections, quantized once if any of them wants it so.
#[derive(Debug)]
pub struct ProjectionInput {
    x: Variable,
    quantized: OnceCell<QuantizedInput>,
}

impl ProjectionInput {
    /// `x` is `[tokens, inputs]`.
    pub fn new(x: Variable) -> Self {
        Self { x, quantized: OnceCell::new() }
    }

    pub(super) fn x(&self) -> &Variable {
        &self.x
    }

    pub(super) fn quantized(&self) -> Result<&QuantizedInput> {
        if let Some(quantized) = self.quantized.get() {
            return Ok(quantized);
        }
        let quantized = QuantizedInput::new(&self.x)?;
        Ok(self.quantized.get_or_init(|| quantized))
    }
}
