//! Ordinary linears.

use bitnet_core::{DType, Tensor};

use super::{Initializer, Module, Parameter};
use crate::{Result, Variable};

/// `y = x W^T + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Parameter,
    /// `[outputs]`.
    pub bias: Option<Parameter>,
}

impl Linear {
    /// New weights, of the deviation `1 / sqrt(inputs)`, and a bias of zeros where there is one.
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

    /// `[.., outputs]` of `[.., inputs]`. Errors: [`bitnet_core::Error::Shapes`].
    pub fn forward(&self, x: &Variable) -> Result<Variable> {
        let y = x.matmul(&self.weight.variable().permute(&[1, 0])?)?;
        add_bias(y, self.bias.as_ref())
    }
}

impl Module for Linear {
    fn parameters(&self) -> Vec<Parameter> {
        std::iter::once(&self.weight).chain(&self.bias).cloned().collect()
    }
}

/// Weight and bias of a new linear.
pub(super) fn new_parts(
    name: &str,
    inputs: usize,
    outputs: usize,
    has_bias: bool,
    random: &mut Initializer,
) -> Result<(Parameter, Option<Parameter>)> {
    let deviation = 1.0 / (inputs as f64).sqrt();
    let weight = Parameter::decayed(format!("{name}.weight"), random.normal(&[outputs, inputs], deviation)?)?;
    if !has_bias {
        return Ok((weight, None));
    }
    let bias = Parameter::undecayed(format!("{name}.bias"), Tensor::zeros([outputs], DType::F32)?)?;
    Ok((weight, Some(bias)))
}

pub(super) fn add_bias(y: Variable, bias: Option<&Parameter>) -> Result<Variable> {
    match bias {
        Some(bias) => y.add(bias.variable()),
        None => Ok(y),
    }
}
