//! Adapters of linears.

use bitnet_core::{DType, Tensor};
use bitnet_inference::model::adapter::{AdapterConfig, tensor_names};

use super::{Initializer, Module, Parameter};
use crate::autograd::add_low_rank;
use crate::{Error, Result, Variable};

/// The size of adapters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoraOptions {
    /// Rows of each `A`, columns of each `B`.
    pub rank: usize,
    /// Products are multiplied by `alpha / rank`; `None` is twice the rank, so that a learning rate suits any rank.
    pub alpha: Option<f64>,
}

impl LoraOptions {
    /// Errors: [`Error::InvalidOption`] for a rank that is not from 1 to `widest`, or an alpha that is not above 0.
    pub(crate) fn check(&self, widest: usize) -> Result<()> {
        if !(1..=widest).contains(&self.rank) {
            let expected = "from 1 to the width of the narrowest projection";
            return Err(Error::InvalidOption { name: "lora", expected, got: self.rank.to_string() });
        }
        match self.alpha {
            Some(alpha) if !(alpha > 0.0 && alpha.is_finite()) => {
                let (name, expected) = ("lora_alpha", "a number above 0");
                Err(Error::InvalidOption { name, expected, got: alpha.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// The config of an adapter of this size, beside a model that is called so.
    pub(crate) fn config(&self, base_model: String) -> AdapterConfig {
        let alpha = self.alpha.unwrap_or(2.0 * self.rank as f64);
        AdapterConfig { rank: self.rank, alpha, is_rank_stabilized: false, base_model }
    }
}

/// What is added to a linear: `alpha / rank B (A x)` (LoRA, arXiv 2106.09685).
#[derive(Debug, Clone)]
pub struct Lora {
    /// `[rank, inputs]`.
    pub a: Parameter,
    /// `[outputs, rank]`.
    pub b: Parameter,
    /// `alpha / rank`.
    pub factor: f32,
}

impl Lora {
    /// A new one, which adds nothing yet: `A` has the deviation `1 / sqrt(3 inputs)`, that of PEFT, and `B` is 0.
    ///
    /// `module` is the Hugging Face name of the linear; parameters have the names of PEFT.
    ///
    /// Errors: [`bitnet_core::Error::OutOfMemory`].
    pub fn new(
        module: &str,
        inputs: usize,
        outputs: usize,
        config: &AdapterConfig,
        random: &mut Initializer,
    ) -> Result<Self> {
        let [a, b] = tensor_names(module);
        let deviation = 1.0 / (3.0 * inputs as f64).sqrt();
        Ok(Self {
            a: Parameter::decayed(a, random.normal(&[config.rank, inputs], deviation)?)?,
            b: Parameter::decayed(b, Tensor::zeros([outputs, config.rank], DType::F32)?)?,
            factor: config.factor(),
        })
    }

    /// `y` with what the linear of `x` gets. Errors: those of [`add_low_rank`].
    pub fn add_to(&self, y: &Variable, x: &Variable) -> Result<Variable> {
        add_low_rank(y, x, self.a.variable(), self.b.variable(), self.factor)
    }
}

impl Module for Lora {
    fn parameters(&self) -> Vec<Parameter> {
        vec![self.a.clone(), self.b.clone()]
    }
}
