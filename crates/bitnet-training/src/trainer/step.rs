//! From a batch to gradients.

use bitnet_core::Tensor;

use crate::autograd::{Estimator, IGNORED, Segments};
use crate::data::Batch;
use crate::distillation::{Distillation, Losses};
use crate::metrics::LossParts;
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

/// What a batch is learnt with.
#[derive(Clone, Copy)]
pub(super) struct Objective<'a> {
    pub(super) distillation: Option<&'a Distillation>,
    pub(super) estimator: Estimator,
}

impl Objective<'_> {
    fn losses(&self, decoder: &Decoder, batch: &Batch) -> Result<Losses> {
        let Inputs { targets, segments } = Inputs::of(batch)?;
        match self.distillation {
            Some(teacher) => teacher.loss(decoder, &batch.ids, &targets, &segments, self.estimator),
            None => Losses::cross_entropy(decoder.loss(&batch.ids, &targets, &segments, self.estimator)?),
        }
    }
}

/// What is known of a batch when its gradients are.
#[derive(Default)]
pub(super) struct Figures {
    /// Mean cross-entropy.
    pub(super) loss: f64,
    pub(super) parts: LossParts,
    /// Of all gradients.
    pub(super) norm: f64,
}

/// Leaves the gradients of the loss on a batch with the parameters; figures are NaN where numbers ran out of bounds.
///
/// The batch is read in `parts`, whose gradients add up to those of the whole: each counts as much as it has to learn, and
/// one that has nothing to learn is left out.
pub(super) fn gradients(
    decoder: &Decoder,
    parameters: &[Parameter],
    batch: &Batch,
    parts: usize,
    objective: Objective<'_>,
) -> Result<Figures> {
    let compute = || {
        decoder.clear_gradients()?;
        let mut figures = Figures::default();
        for part in batch.parts(parts).filter(|part| parts == 1 || part.learnt() > 0) {
            let share = part.learnt() as f64 / batch.learnt() as f64;
            let Losses { total, cross_entropy, parts } = objective.losses(decoder, &part)?;
            total.backward_with(Tensor::from_vec(vec![share as f32], [])?)?;
            figures.loss += share * cross_entropy;
            figures.parts.add(share, &parts);
        }
        figures.norm = gradient_norm(parameters)?;
        Ok(figures)
    };
    compute().or_else(|error| {
        let nan = nan_if_not_finite(error)?;
        Ok(Figures { loss: nan, parts: LossParts::default(), norm: nan })
    })
}

/// What is not finite cannot be made ternary; that is for the guard to judge, as a loss that is none.
pub(super) fn nan_if_not_finite(error: Error) -> Result<f64> {
    match error {
        Error::Quant(bitnet_quant::Error::NotFinite { .. }) | Error::NotFinite(_) => Ok(f64::NAN),
        error => Err(error),
    }
}
