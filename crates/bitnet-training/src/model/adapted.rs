//! Decoders of which adapters alone are trained.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bitnet_core::Tensor;
use bitnet_inference::Model;
use bitnet_inference::model::adapter::AdapterConfig;
use bitnet_quant::{BitLinear, TernaryMatrix};

use super::{Projection, ProjectionInput};
use crate::autograd::ternary_linear;
use crate::nn::{Initializer, Lora, Module, Parameter};
use crate::{Result, Variable};

/// A linear that stays as it is, and an adapter that is trained.
#[derive(Debug, Clone)]
pub struct AdaptedLinear {
    base: FrozenLinear,
    lora: Lora,
}

/// A linear that is not trained: it has neither a master nor a gradient.
#[derive(Debug, Clone)]
enum FrozenLinear {
    /// Where the checkpoint has it, or as it was ternarised once.
    Ternary(TernaryMatrix),
    /// Of a module that the config exempts, `[outputs, inputs]`.
    Float(Variable),
}

impl AdaptedLinear {
    pub(super) fn forward(&self, input: &ProjectionInput) -> Result<Variable> {
        let y = match &self.base {
            FrozenLinear::Ternary(w) => ternary_linear(input.quantized()?, w)?,
            FrozenLinear::Float(w) => input.x().matmul(&w.permute(&[1, 0])?)?,
        };
        self.lora.add_to(&y, input.x())
    }
}

impl Module for AdaptedLinear {
    fn parameters(&self) -> Vec<Parameter> {
        self.lora.parameters()
    }
}

/// Makes the projections of such a decoder.
pub(super) struct Adapting<'m> {
    ternary: BTreeMap<String, &'m BitLinear>,
    config: &'m AdapterConfig,
    random: RefCell<Initializer>,
}

impl<'m> Adapting<'m> {
    pub(super) fn new(model: &'m Model, config: &'m AdapterConfig, seed: u64) -> Self {
        let random = RefCell::new(Initializer::new(seed));
        Self { ternary: model.ternary_linears().collect(), config, random }
    }

    /// A projection of this name, whose floats `read` gives where it is not ternary.
    ///
    /// Errors: [`bitnet_quant::Error::Granularity`] for a matrix of several scales; those of `read`.
    pub(super) fn projection(
        &self,
        name: &str,
        [outputs, inputs]: [usize; 2],
        read: &dyn Fn(&str, &[usize]) -> Result<Tensor>,
    ) -> Result<Projection> {
        let base = match self.ternary.get(name) {
            Some(linear) => {
                linear.weight().one_scale()?;
                FrozenLinear::Ternary(linear.weight().clone())
            }
            None => {
                FrozenLinear::Float(Variable::constant(read(&format!("{name}.weight"), &[outputs, inputs])?)?)
            }
        };
        let lora = Lora::new(name, inputs, outputs, self.config, &mut self.random.borrow_mut())?;
        Ok(Projection::Adapted(AdaptedLinear { base, lora }))
    }
}
