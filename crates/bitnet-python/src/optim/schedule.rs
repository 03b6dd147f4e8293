//! How rates change over the steps.

use bitnet_inference::Error;
use bitnet_training::optim::{self, Fall};
use bitnet_training::trainer::RecipeName;
use pyo3::prelude::*;

use super::not_negative;
use crate::error::Failure;

/// A rate that rises in a straight line over warmup steps, then falls from peak to end, which it has at step steps.
///
/// fall is "cosine", "linear" or "constant". schedule(step), of a step counted from 0, is the rate; the first is
/// peak / warmup. Raises OptionError.
#[pyclass(frozen, module = "bitnet_rust.optim")]
pub(crate) struct Schedule(optim::Schedule);

#[pymethods]
impl Schedule {
    #[new]
    #[pyo3(signature = (peak, steps, *, warmup = 0, end = 0.0, fall = "cosine"))]
    fn new(peak: f64, steps: u64, warmup: u64, end: f64, fall: &str) -> Result<Self, Failure> {
        let fall = match fall {
            "cosine" => Fall::Cosine,
            "linear" => Fall::Linear,
            "constant" => Fall::Constant,
            other => {
                let (expected, got) = ("cosine, linear or constant", other.to_owned());
                return Err(Error::InvalidOption { name: "fall", expected, got }.into());
            }
        };
        let (peak, end) = (not_negative("peak", peak)?, not_negative("end", end)?);
        Ok(Self(optim::Schedule { peak, end, warmup, steps, fall }))
    }

    fn __call__(&self, step: u64) -> f32 {
        self.0.rate(step)
    }

    fn __repr__(&self) -> String {
        let optim::Schedule { peak, end, warmup, steps, fall } = self.0;
        format!("Schedule({peak} to {end}, {fall:?}, {warmup} of {steps} steps to rise)")
    }
}

/// Learning rate and weight decay of every step of a whole training: "b1.58", "finetune" or "distill", as bitnet train
/// has them.
///
/// peak is the greatest learning rate, by default that of the recipe. docs/training.md says what the rates are. Raises
/// OptionError. Source of "b1.58": "The Era of 1-bit LLMs: Training Tips, Code and FAQ".
#[pyclass(frozen, module = "bitnet_rust.optim")]
pub(crate) struct Recipe {
    name: RecipeName,
    recipe: optim::Recipe,
}

#[pymethods]
impl Recipe {
    #[new]
    #[pyo3(signature = (name, steps, *, peak = None))]
    fn new(name: &str, steps: u64, peak: Option<f64>) -> Result<Self, Failure> {
        let name: RecipeName = name.parse()?;
        let peak = peak.map_or_else(|| Ok(name.default_peak()), |peak| not_negative("peak", peak))?;
        Ok(Self { name, recipe: name.recipe(peak, steps) })
    }

    /// The learning rate of a step, counted from 0.
    fn lr(&self, step: u64) -> f32 {
        self.recipe.learning_rate(step)
    }

    /// The weight decay of a step, counted from 0.
    fn weight_decay(&self, step: u64) -> f32 {
        self.recipe.weight_decay(step)
    }

    fn __repr__(&self) -> String {
        format!("Recipe({})", self.name)
    }
}
