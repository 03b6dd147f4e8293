//! Conversions that write nothing.

use std::collections::BTreeMap;

use bitnet_core::{Buffer, Tensor, ThreadPool};

use super::hf::Types;
use super::{HfForm, Plan, Target, refuse_unwritten};
use crate::model::Model;
use crate::{Checkpoint, Result};

/// A checkpoint as float masters in memory, with the files beside them: what [`super::convert`] writes as
/// [`HfForm::Master`], to train on.
///
/// A packed model has no master. Each ternary matrix gets one in bfloat16 that absmean turns into its codes and its scale
/// again, bit for bit. `codes * scale` itself would not do: with zeros among the codes, its mean is less than the scale.
///
/// Errors: those of [`Model::load`] and [`refuse_unwritten`]; [`crate::Error::Lossy`] for weights that no master gives.
pub fn to_master(checkpoint: &Checkpoint, pool: &ThreadPool) -> Result<Checkpoint> {
    let (files, tensors) = master_parts(checkpoint, &Model::load(checkpoint, pool)?)?;
    Ok(Checkpoint::from_memory(checkpoint.path(), files, tensors))
}

/// Files and tensors by their names.
pub(super) type Parts = (BTreeMap<String, Buffer>, BTreeMap<String, Tensor>);

/// What [`to_master`] makes a checkpoint of, whose model is loaded.
pub(super) fn master_parts(checkpoint: &Checkpoint, model: &Model) -> Result<Parts> {
    refuse_unwritten(checkpoint, &model.config, Target::Hf(HfForm::Master))?;
    let Plan { tensors, files, .. } = Plan::new(checkpoint, model, HfForm::Master, Types::default(), false)?;
    let mut named = BTreeMap::new();
    for (index, spec) in tensors.specs.iter().enumerate() {
        let bytes = Buffer::from(tensors.bytes(index)?.into_owned());
        named.insert(spec.name.clone(), Tensor::new(spec.dtype, spec.dims.clone(), bytes)?);
    }
    let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.into())).collect();
    Ok((files, named))
}
