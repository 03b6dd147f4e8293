//! How a model is trained, from the keyword arguments of a call.

use bitnet_inference::Error;
use bitnet_training::trainer::{Length, SampleOptions, TrainOptions};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::Failure;
use crate::generate_options::of_argument;
use crate::model::count;

/// Options by their names. Raises OptionError for values that cannot be, TypeError for a name that is not known and for
/// another type.
pub(super) fn train_options(options: Option<&Bound<'_, PyDict>>) -> Result<TrainOptions, Failure> {
    let mut train = TrainOptions::default();
    for (name, value) in options.into_iter().flatten() {
        if !value.is_none() {
            let name: String = name.extract()?;
            set(&mut train, &name, &value).map_err(|failure| of_argument(value.py(), &name, failure))?;
        }
    }
    let Some(options) = options else { return Ok(train) };
    if is_given(options, "steps")? && is_given(options, "epochs")? {
        return invalid("epochs", "None where steps are given", "a number");
    }
    // One waits for the other, whichever comes first.
    if is_given(options, "sample_every")? != is_given(options, "sample_prompt")? {
        return invalid("sample_every", "given together with sample_prompt", "alone");
    }
    Ok(train)
}

fn invalid<T>(name: &'static str, expected: &'static str, got: &str) -> Result<T, Failure> {
    Err(Error::InvalidOption { name, expected, got: got.to_owned() }.into())
}

/// Sets one option, which is not None.
fn set(train: &mut TrainOptions, name: &str, value: &Bound<'_, PyAny>) -> Result<(), Failure> {
    match name {
        "recipe" => train.recipe = value.extract::<String>()?.parse()?,
        "steps" => train.length = Length::Steps(steps("steps", value)?),
        "epochs" => train.length = Length::Epochs(value.extract()?),
        "batch_tokens" => train.batch_tokens = count("batch_tokens", value.extract()?)?,
        "seq_len" => train.seq_len = Some(count("seq_len", value.extract()?)?),
        "accumulate" => train.accumulate = count("accumulate", value.extract()?)?,
        "optimizer" => train.optimizer = value.extract::<String>()?.parse()?,
        "activation_dtype" => train.notes = value.extract::<String>()?.parse()?,
        "sample_every" => samples(train).every = steps("sample_every", value)?,
        "sample_prompt" => samples(train).prompt = value.extract()?,
        "temperature" => train.distill.temperature = value.extract()?,
        "logit_weight" => train.distill.logit_weight = value.extract()?,
        "relation_weight" => train.distill.relation_weight = value.extract()?,
        "relation_layer" => train.distill.relation_layer = Some(value.extract()?),
        "relation_heads" => train.distill.relation_heads = Some(count("relation_heads", value.extract()?)?),
        "ramp" => train.distill.ramp = value.extract()?,
        "interpolate" => train.interpolate = value.extract()?,
        "lr" => train.learning_rate = Some(value.extract()?),
        "seed" => train.seed = value.extract()?,
        "eval_every" => train.eval_every = Some(steps("eval_every", value)?),
        "save_every" => train.save_every = Some(steps("save_every", value)?),
        _ => return Err(PyTypeError::new_err("train() has no such argument").into()),
    }
    Ok(())
}

fn samples(train: &mut TrainOptions) -> &mut SampleOptions {
    train.samples.get_or_insert_with(|| SampleOptions { every: 0, prompt: String::new() })
}

fn steps(name: &'static str, value: &Bound<'_, PyAny>) -> Result<u64, Failure> {
    Ok(count(name, value.extract()?)? as u64)
}

fn is_given(options: &Bound<'_, PyDict>, name: &str) -> PyResult<bool> {
    Ok(options.get_item(name)?.is_some_and(|value| !value.is_none()))
}
