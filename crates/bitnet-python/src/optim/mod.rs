//! `bitnet_rust.optim`: optimizers, clipping, and how rates change.

mod clip;
mod optimizer;
mod schedule;

pub(crate) use self::clip::clip_grad_norm;
pub(crate) use self::optimizer::{AdamW, Optimizer, Sgd};
pub(crate) use self::schedule::{Recipe, Schedule};

use bitnet_inference::Error;
use bitnet_training::nn::Parameter;
use pyo3::prelude::*;

use crate::error::Failure;
use crate::nn;

/// Parameters, or pairs of a name and a parameter. Those without a name are called by their place.
fn parameters(object: &Bound<'_, PyAny>) -> Result<Vec<Parameter>, Failure> {
    let named = |(place, object): (usize, PyResult<Bound<'_, PyAny>>)| {
        let object = object?;
        if let Ok(parameter) = object.cast::<nn::Parameter>() {
            return nn::Parameter::named(parameter, place.to_string());
        }
        let (name, parameter): (String, Bound<'_, nn::Parameter>) = object.extract()?;
        nn::Parameter::named(&parameter, name)
    };
    object.try_iter()?.enumerate().map(named).collect()
}

/// A number from 0 on.
fn not_negative(name: &'static str, value: f64) -> Result<f32, Failure> {
    if value >= 0.0 && value.is_finite() {
        return Ok(value as f32);
    }
    let (expected, got) = ("a number from 0 on", value.to_string());
    Err(Error::InvalidOption { name, expected, got }.into())
}

/// A share that stays from step to step.
fn share(name: &'static str, value: f64) -> Result<f32, Failure> {
    if (0.0..1.0).contains(&value) {
        return Ok(value as f32);
    }
    let (expected, got) = ("from 0 to below 1", value.to_string());
    Err(Error::InvalidOption { name, expected, got }.into())
}
