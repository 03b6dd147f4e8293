//! Named variables that training changes.

use bitnet_core::Tensor;

use crate::{Result, Variable};

/// A leaf, or a constant, with a name. Clones are the same parameter.
#[derive(Debug, Clone)]
pub struct Parameter {
    name: String,
    variable: Variable,
    is_decayed: bool,
}

impl Parameter {
    /// The weights of a linear, which weight decay pulls to 0.
    ///
    /// Errors: [`bitnet_core::Error::DType`] unless they are float32; the same for [`Self::undecayed`] and
    /// [`Self::frozen`].
    pub fn decayed(name: impl Into<String>, value: Tensor) -> Result<Self> {
        Ok(Self { name: name.into(), variable: Variable::leaf(value)?, is_decayed: true })
    }

    /// An embedding, the weights of a norm or a bias, which it spares as a rule.
    pub fn undecayed(name: impl Into<String>, value: Tensor) -> Result<Self> {
        Ok(Self { name: name.into(), variable: Variable::leaf(value)?, is_decayed: false })
    }

    /// Whatever stays as it is: a constant.
    pub fn frozen(name: impl Into<String>, value: Tensor) -> Result<Self> {
        Ok(Self { name: name.into(), variable: Variable::constant(value)?, is_decayed: false })
    }

    /// A leaf that is a parameter by this name.
    pub fn of(name: impl Into<String>, variable: Variable, is_decayed: bool) -> Self {
        Self { name: name.into(), variable, is_decayed }
    }

    /// Its name in checkpoints.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The leaf, or the constant.
    pub fn variable(&self) -> &Variable {
        &self.variable
    }

    /// Whether it is a kind of parameter that weight decay is for.
    pub fn is_decayed(&self) -> bool {
        self.is_decayed
    }
}

/// Whatever has parameters.
pub trait Module {
    /// All parameters, in an order that stays.
    fn parameters(&self) -> Vec<Parameter>;

    /// Forgets the gradients of all parameters.
    ///
    /// Errors: none for leaves.
    fn clear_gradients(&self) -> Result<()> {
        self.parameters().iter().try_for_each(|parameter| parameter.variable().set_gradient(None))
    }
}

impl<M: Module> Module for Option<M> {
    fn parameters(&self) -> Vec<Parameter> {
        self.as_ref().map_or_else(Vec::new, Module::parameters)
    }
}
