//! Models in between: the weighted mean of float masters.

use bitnet_core::{DType, Tensor, ThreadPool};

use super::in_memory::master_parts;
use crate::checkpoint::Stored;
use crate::config::{ModelConfig, WeightForm};
use crate::model::Model;
use crate::{Checkpoint, Error, Result};

/// The float masters `w = sum of a_i w_i`, in memory, to be written by [`super::convert`]; `a` are `weights` divided by
/// their sum, or equal. Computed in float32 and rounded to the types of the first, which gives the files beside them.
///
/// Fine-tuned models of one origin lie close enough together for their mean to be better than each: noise cancels.
/// Source: "Model soups", arXiv 2203.05482.
///
/// Errors: those of [`super::to_master`]; [`Error::InvalidOption`] for fewer than two models, for as many weights as there are
/// no models, and weights without a mean; [`Error::Checkpoint`] for what is no master, or not of one shape and tokenizer.
pub fn merge(checkpoints: &[Checkpoint], weights: Option<&[f64]>, pool: &ThreadPool) -> Result<Checkpoint> {
    let shares = shares(weights, checkpoints.len())?;
    let [first, others @ ..] = checkpoints else { unreachable!("there are at least two") };
    let model = load(first, pool)?;
    for other in others {
        refuse_other((first, &model.config), (other, &load(other, pool)?.config))?;
    }
    let (files, mut tensors) = master_parts(first, &model)?;
    for (name, tensor) in &mut tensors {
        let mut sum = tensor.to_dtype(DType::F32)?.mul(shares[0])?;
        for (other, share) in others.iter().zip(&shares[1..]) {
            sum = sum.add(&beside(tensor, other, name)?.to_dtype(DType::F32)?.mul(*share)?)?;
        }
        *tensor = sum.to_dtype(tensor.dtype())?;
    }
    Ok(Checkpoint::from_memory(first.path(), files, tensors))
}

/// Weights with the sum 1.
fn shares(weights: Option<&[f64]>, models: usize) -> Result<Vec<f32>> {
    let refuse = |name, expected, got| Err(Error::InvalidOption { name, expected, got });
    if models < 2 {
        return refuse("models", "at least two", models.to_string());
    }
    let Some(weights) = weights else { return Ok(vec![1.0 / models as f32; models]) };
    if weights.len() != models {
        return refuse("weights", "one for each model", weights.len().to_string());
    }
    let sum: f64 = weights.iter().sum();
    if !(sum > 0.0 && sum.is_finite()) {
        return refuse("weights", "finite numbers with a sum above 0", format!("{weights:?}"));
    }
    Ok(weights.iter().map(|weight| (weight / sum) as f32).collect())
}

/// Errors: those of [`Model::load`]; [`Error::Checkpoint`] for weights that are ternary already: their mean is not.
fn load(checkpoint: &Checkpoint, pool: &ThreadPool) -> Result<Model> {
    let model = Model::load(checkpoint, pool)?;
    if model.stored == WeightForm::Master {
        return Ok(model);
    }
    let fact = "holds ternary weights, whose mean is not ternary; merge the float masters";
    Err(Error::checkpoint(checkpoint.path(), fact))
}

/// Errors: [`Error::Checkpoint`] for models that compute something else with the same tensors.
fn refuse_other(
    (first, config_of_first): (&Checkpoint, &ModelConfig),
    (other, config_of_other): (&Checkpoint, &ModelConfig),
) -> Result<()> {
    let shape = |c: &ModelConfig| {
        let numbers = (c.layers, c.heads, c.kv_heads, c.rms_norm_eps.to_bits(), c.rope_theta.to_bits());
        (c.architecture.name, c.activation, numbers)
    };
    if shape(config_of_first) != shape(config_of_other) {
        let fact = format!("is not of the shape of {}", first.path().display());
        return Err(Error::checkpoint(other.path(), fact));
    }
    if first.file("tokenizer.json")?.as_deref() != other.file("tokenizer.json")?.as_deref() {
        let fact = format!("has another tokenizer than {}", first.path().display());
        return Err(Error::checkpoint(other.path(), fact));
    }
    Ok(())
}

/// The tensor of `other` with the name and the shape of that of the first model.
fn beside(tensor: &Tensor, other: &Checkpoint, name: &str) -> Result<Tensor> {
    match other.tensor(name)? {
        Some(Stored::Plain(found)) if found.dims() == tensor.dims() => Ok(found),
        Some(found) => {
            let fact = format!("{name} is {:?}, and {:?} in the first model", found.dims(), tensor.dims());
            Err(Error::checkpoint(other.tensor_path(name), fact))
        }
        None => Err(Error::checkpoint(other.path(), format!("has no {name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_shares_of_their_sum() {
        assert_eq!(shares(None, 4).unwrap(), [0.25; 4]);
        assert_eq!(shares(Some(&[1.0, 3.0]), 2).unwrap(), [0.25, 0.75]);
        assert_eq!(shares(Some(&[-1.0, 2.0]), 2).unwrap(), [-1.0, 2.0], "beyond the second, from the first");
        for (weights, models) in [
            (None, 1),
            (Some(&[1.0][..]), 2),
            (Some(&[1.0, -1.0]), 2),
            (Some(&[f64::NAN, 1.0]), 2),
            (Some(&[f64::MAX, f64::MAX]), 2),
        ] {
            assert!(matches!(shares(weights, models), Err(Error::InvalidOption { .. })), "{weights:?}");
        }
    }
}
