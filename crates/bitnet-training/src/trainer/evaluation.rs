//! The loss on data that is not learnt.

use bitnet_core::{DType, Tensor};

use super::step::{Inputs, nan_if_not_finite};
use crate::Result;
use crate::autograd::{Estimator, no_grad};
use crate::data::Dataset;
use crate::model::Decoder;
use crate::nn::Parameter;

/// Mean negative log-likelihood, nats per token, of all that is to be learnt in `data`, by the model as it is written:
/// with the parameters `written` rounded to bfloat16. `rows` sequences are read at once. NaN where the model is not
/// finite.
pub(super) fn loss(decoder: &Decoder, written: &[Parameter], data: &Dataset, rows: usize) -> Result<f64> {
    let round = |_: usize, value: &Tensor| Ok(value.to_dtype(DType::BF16)?.to_dtype(DType::F32)?);
    with_values(written, round, || {
        let (mut sum, mut tokens) = (0.0, 0);
        for batch in data.batches(rows) {
            let Inputs { targets, segments } = Inputs::of(&batch)?;
            let mean = no_grad(|| decoder.loss(&batch.ids, &targets, &segments, Estimator::Plain))?;
            let learnt = batch.learnt();
            sum += f64::from(mean.value().to_f32()?[0]) * learnt as f64;
            tokens += learnt;
        }
        Ok(sum / tokens as f64)
    })
    .or_else(nan_if_not_finite)
}

/// Runs `work` while parameters have other values, those of `other` for the index and value of each, and puts them back.
pub(super) fn with_values<R>(
    parameters: &[Parameter],
    other: impl Fn(usize, &Tensor) -> Result<Tensor>,
    work: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let exact: Vec<Tensor> = parameters.iter().map(|parameter| parameter.variable().value()).collect();
    let mut values = parameters.iter().zip(&exact).enumerate();
    let set = values
        .try_for_each(|(index, (parameter, value))| parameter.variable().set_value(other(index, value)?));
    let done = set.and_then(|()| work());
    parameters.iter().zip(exact).try_for_each(|(parameter, value)| parameter.variable().set_value(value))?;
    done
}
