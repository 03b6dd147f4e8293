//! Parameters that have other values for a while.

use bitnet_core::Tensor;

use crate::Result;
use crate::nn::Parameter;

/// Runs `work` while parameters have other values, one for each, and puts their own back.
pub(super) fn with_values<R>(
    parameters: &[Parameter],
    values: Vec<Tensor>,
    work: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let own: Vec<Tensor> = parameters.iter().map(|parameter| parameter.variable().value()).collect();
    let set = |values: Vec<Tensor>| -> Result<()> {
        parameters.iter().zip(values).try_for_each(|(parameter, value)| parameter.variable().set_value(value))
    };
    let done = set(values).and_then(|()| work());
    set(own)?;
    done
}
