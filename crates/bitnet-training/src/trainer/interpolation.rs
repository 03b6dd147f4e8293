//! Models between the one that a run begins with and the one that it makes.

use bitnet_core::Tensor;

use super::Start;
use crate::nn::Parameter;
use crate::{Error, Result};

/// What is written in place of the trained parameters: `w = w_0 + factor (w_1 - w_0)`, from `w_0` of the first model to
/// `w_1` of the trained one.
///
/// On the way there much of what is learnt is gained before much of what was known is lost: see docs/training.md. Source:
/// arXiv 2109.01903.
#[derive(Debug)]
pub(super) struct Interpolation {
    factor: f32,
    first: Vec<Tensor>,
}

impl Interpolation {
    /// For a run that begins with `parameters`; none where the trained ones are written.
    ///
    /// Errors: [`Error::InvalidOption`] for adapters, whose products do not lie on a line.
    pub(super) fn new(factor: f32, start: &Start, parameters: &[Parameter]) -> Result<Option<Self>> {
        if factor == 1.0 {
            return Ok(None);
        }
        if start.is_adapter() {
            let (name, expected) = ("interpolate", "1 while an adapter is trained");
            return Err(Error::InvalidOption { name, expected, got: factor.to_string() });
        }
        let first = parameters.iter().map(|parameter| Ok(parameter.variable().value().copied()?));
        Ok(Some(Self { factor, first: first.collect::<Result<_>>()? }))
    }

    /// What is written of parameters as they are trained by now.
    pub(super) fn values(&self, parameters: &[Parameter]) -> Result<Vec<Tensor>> {
        let between = |(first, parameter): (&Tensor, &Parameter)| {
            let change = parameter.variable().value().sub(first)?;
            Ok(first.add(&change.mul(self.factor)?)?)
        };
        self.first.iter().zip(parameters).map(between).collect()
    }
}
