//! Vectors of tokens.

use super::{Initializer, Module, Parameter};
use crate::autograd::embedding;
use crate::{Result, Variable};

/// A table with a row for each token.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// `[vocabulary, width]`.
    pub weight: Parameter,
}

impl Embedding {
    /// New rows of the deviation 0.02.
    pub fn new(name: &str, vocab_size: usize, width: usize, random: &mut Initializer) -> Result<Self> {
        let table = random.normal(&[vocab_size, width], 0.02)?;
        Ok(Self { weight: Parameter::undecayed(format!("{name}.weight"), table)? })
    }

    /// `[tokens, width]`. Errors: [`crate::Error::Token`].
    pub fn forward(&self, ids: &[u32]) -> Result<Variable> {
        embedding(self.weight.variable(), ids)
    }
}

impl Module for Embedding {
    fn parameters(&self) -> Vec<Parameter> {
        vec![self.weight.clone()]
    }
}
