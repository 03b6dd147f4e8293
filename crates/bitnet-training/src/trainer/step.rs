//! From a batch to gradients.

use bitnet_core::Tensor;

use crate::autograd::{Estimator, IGNORED, Segments};
use crate::data::Batch;
use crate::model::Decoder;
use crate::nn::{Module, Parameter};
use crate::optim::gradient_norm;
use crate::{Error, Result};

/// A batch as a decoder reads it, beside its tokens.
pub(super) struct Inputs {
    pub(super) targets: Vec<u32>,
    pub(super) segments: Segments,
}

impl Inputs {
    pub(super) fn of(batch: &Batch) -> Result<Self> {
        let learnt = batch.targets.iter().zip(&batch.is_learnt);
        let targets = learnt.map(|(&target, &is_learnt)| if is_learnt { target } else { IGNORED }).collect();
        // A document begins wherever positions begin again.
        let starts = (0..batch.ids.len()).filter(|&at| batch.positions[at] == 0);
        let starts: Vec<usize> = starts.chain([batch.ids.len()]).collect();
        let segments = Segments::new(starts.windows(2).map(|pair| pair[1] - pair[0]))?;
        Ok(Self { targets, segments })
    }
}

/// Leaves the gradients of the mean loss on a batch with the parameters; gives the loss and the norm of all gradients,
/// NaN where numbers ran out of bounds.
///
/// The batch is read in `parts`, whose gradients add up to those of the whole: each counts as much as it has to learn.
pub(super) fn gradients(
    decoder: &Decoder,
    parameters: &[Parameter],
    batch: &Batch,
    parts: usize,
) -> Result<[f64; 2]> {
    let compute = || {
        decoder.clear_gradients()?;
        let mut sum = 0.0;
        for part in batch.parts(parts) {
            let Inputs { targets, segments } = Inputs::of(&part)?;
            let share = part.learnt() as f64 / batch.learnt() as f64;
            let loss = decoder.loss(&part.ids, &targets, &segments, Estimator::Plain)?;
            loss.backward_with(Tensor::from_vec(vec![share as f32], [])?)?;
            sum += share * f64::from(loss.value().to_f32()?[0]);
        }
        Ok([sum, gradient_norm(parameters)?])
    };
    compute().or_else(|error| Ok([nan_if_not_finite(error)?; 2]))
}

/// What is not finite cannot be made ternary; that is for the guard to judge, as a loss that is none.
pub(super) fn nan_if_not_finite(error: Error) -> Result<f64> {
    match error {
        Error::Quant(bitnet_quant::Error::NotFinite { .. }) | Error::NotFinite(_) => Ok(f64::NAN),
        error => Err(error),
    }
}
