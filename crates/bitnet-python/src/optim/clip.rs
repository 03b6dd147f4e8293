//! Gradient clipping.

use bitnet_training::optim::{clip_factor, gradient_norm};
use pyo3::prelude::*;

use super::{not_negative, parameters};
use crate::error::Failure;
use crate::tensor::on_threads;

/// Scale all gradients by min(1, max_norm / norm), with norm = sqrt(sum of g^2) over all of them, which is returned.
///
/// parameters are those of AdamW. A norm that is NaN or infinite is returned as well, and makes the gradients useless:
/// skip the step then. Raises OptionError. Source: arXiv 1211.5063.
#[pyfunction]
pub(crate) fn clip_grad_norm(
    py: Python<'_>,
    parameters: &Bound<'_, PyAny>,
    max_norm: f64,
) -> Result<f64, Failure> {
    let parameters = self::parameters(parameters)?;
    not_negative("max_norm", max_norm)?;
    let elements = parameters.iter().map(|parameter| parameter.variable().value().len()).sum();
    Ok(on_threads(py, elements, || {
        let norm = gradient_norm(&parameters)?;
        let factor = clip_factor(norm, max_norm);
        for parameter in parameters.iter().filter(|_| factor < 1.0) {
            if let Some(gradient) = parameter.variable().gradient() {
                parameter.variable().set_gradient(Some(gradient.mul(factor)?))?;
            }
        }
        Ok::<_, bitnet_training::Error>(norm)
    })?)
}
