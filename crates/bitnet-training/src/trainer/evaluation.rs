//! The loss on data that is not learnt.

use bitnet_core::DType;

use super::other_values::with_values;
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
    let rounded = written.iter().map(|parameter| {
        let value = parameter.variable().value();
        Ok(value.to_dtype(DType::BF16)?.to_dtype(DType::F32)?)
    });
    with_values(written, rounded.collect::<Result<_>>()?, || {
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
