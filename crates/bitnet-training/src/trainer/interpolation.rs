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
    /// Errors: [`Error::InvalidOption`] for a factor that is not above 0 and at most 1, and for adapters, whose products
    /// do not lie on a line.
    pub(super) fn new(factor: f32, start: &Start, parameters: &[Parameter]) -> Result<Option<Self>> {
        if factor == 1.0 {
            return Ok(None);
        }
        let invalid =
            |expected| Err(Error::InvalidOption { name: "interpolate", expected, got: factor.to_string() });
        if !(factor > 0.0 && factor < 1.0) {
            return invalid("above 0 and at most 1");
        }
        if start.is_adapter() {
            return invalid("1 while an adapter is trained");
        }
        let first = parameters.iter().map(|parameter| Ok(parameter.variable().value().copied()?));
        Ok(Some(Self { factor, first: first.collect::<Result<_>>()? }))
    }

    /// The value of a parameter, the `index`th.
    pub(super) fn value(&self, index: usize, trained: &Tensor) -> Result<Tensor> {
        let first = &self.first[index];
        Ok(first.add(&trained.sub(first)?.mul(self.factor)?)?)
    }
}
