//! Linears that are ternary in the forward pass.

use super::linear::{add_bias, new_parts};
use super::{Initializer, Module, Parameter};
use crate::autograd::{Estimator, QuantizedInput, bit_linear};
use crate::{Result, Variable};

/// `y = Q(x) Q(W)^T + b`, with a float master `W`.
#[derive(Debug, Clone)]
pub struct BitLinear {
    /// The master, `[outputs, inputs]`.
    pub weight: Parameter,
    /// `[outputs]`.
    pub bias: Option<Parameter>,
}

impl BitLinear {
    /// As [`super::Linear::new`].
    pub fn new(
        name: &str,
        inputs: usize,
        outputs: usize,
        has_bias: bool,
        random: &mut Initializer,
    ) -> Result<Self> {
        let (weight, bias) = new_parts(name, inputs, outputs, has_bias, random)?;
        Ok(Self { weight, bias })
    }

    /// `[.., outputs]` of `[.., inputs]`. Errors: those of [`bit_linear`].
    pub fn forward(&self, x: &Variable, estimator: Estimator) -> Result<Variable> {
        self.forward_quantized(&QuantizedInput::new(x)?, estimator)
    }

    /// The same of an input that several layers share.
    pub fn forward_quantized(&self, input: &QuantizedInput, estimator: Estimator) -> Result<Variable> {
        add_bias(bit_linear(input, self.weight.variable(), estimator)?, self.bias.as_ref())
    }
}

impl Module for BitLinear {
    fn parameters(&self) -> Vec<Parameter> {
        std::iter::once(&self.weight).chain(&self.bias).cloned().collect()
    }
}
