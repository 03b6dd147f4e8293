//! Root-mean-square normalisation with weights.

use super::{Initializer, Module, Parameter};
use crate::autograd::rms_norm;
use crate::{Result, Variable};

/// `y_i = w_i x_i / sqrt(mean(x^2) + eps)`.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// `[width]`.
    pub weight: Parameter,
    /// Added to the mean square.
    pub eps: f32,
}

impl RmsNorm {
    /// Weights of 1.
    pub fn new(name: &str, width: usize, eps: f32) -> Result<Self> {
        Ok(Self { weight: Parameter::undecayed(format!("{name}.weight"), Initializer::ones(width)?)?, eps })
    }

    /// Along the last dimension. Errors: [`bitnet_core::Error::Shapes`].
    pub fn forward(&self, x: &Variable) -> Result<Variable> {
        rms_norm(x, self.weight.variable(), self.eps)
    }
}

impl Module for RmsNorm {
    fn parameters(&self) -> Vec<Parameter> {
        vec![self.weight.clone()]
    }
}
