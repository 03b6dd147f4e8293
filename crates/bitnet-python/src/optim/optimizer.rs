//! Optimizers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bitnet_inference::Error;
use bitnet_training::nn::Parameter;
use bitnet_training::optim::{self, AdamWOptions, MomentFormat, Rates, SgdOptions, State};
use pyo3::PyClassInitializer;
use pyo3::prelude::*;

use super::{not_negative, parameters, share};
use crate::error::Failure;
use crate::tensor::{Tensor, on_threads};

/// What changes parameters by their gradients: AdamW or SGD. lr and weight_decay may be set before each step.
#[pyclass(frozen, subclass, module = "bitnet_rust.optim")]
pub(crate) struct Optimizer {
    parameters: Vec<Parameter>,
    /// Elements of all parameters.
    elements: usize,
    stepper: Mutex<Stepper>,
}

struct Stepper {
    optimizer: Box<dyn optim::Optimizer + Send>,
    rates: Rates,
}

impl Optimizer {
    fn new(
        parameters: Vec<Parameter>,
        optimizer: impl optim::Optimizer + Send + 'static,
        (lr, weight_decay): (f64, f64),
    ) -> Result<Self, Failure> {
        let rates = Rates {
            learning_rate: not_negative("lr", lr)?,
            weight_decay: not_negative("weight_decay", weight_decay)?,
            gradient_factor: 1.0,
        };
        let elements = parameters.iter().map(|parameter| parameter.variable().value().len()).sum();
        let stepper = Mutex::new(Stepper { optimizer: Box::new(optimizer), rates });
        Ok(Self { parameters, elements, stepper })
    }

    fn stepper(&self) -> MutexGuard<'_, Stepper> {
        self.stepper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Optimizer {
    /// The learning rate.
    #[getter]
    fn lr(&self) -> f32 {
        self.stepper().rates.learning_rate
    }

    #[setter]
    fn set_lr(&self, lr: f64) -> Result<(), Failure> {
        self.stepper().rates.learning_rate = not_negative("lr", lr)?;
        Ok(())
    }

    /// How far parameters that decay are pulled to 0 in a step, times the learning rate.
    #[getter]
    fn weight_decay(&self) -> f32 {
        self.stepper().rates.weight_decay
    }

    #[setter]
    fn set_weight_decay(&self, weight_decay: f64) -> Result<(), Failure> {
        self.stepper().rates.weight_decay = not_negative("weight_decay", weight_decay)?;
        Ok(())
    }

    /// Change every parameter that has a gradient. Gradients stay: see zero_grad().
    fn step(&self, py: Python<'_>) -> Result<(), Failure> {
        Ok(on_threads(py, self.elements, || {
            let Stepper { optimizer, rates } = &mut *self.stepper();
            optimizer.step(*rates)
        })?)
    }

    /// Forget the gradients of all parameters.
    fn zero_grad(&self) -> Result<(), Failure> {
        for parameter in &self.parameters {
            parameter.variable().set_gradient(None)?;
        }
        Ok(())
    }

    /// What the next step depends on beside parameters, gradients and rates: tensors by "<parameter>.<what>", and "step".
    ///
    /// A parameter is called by its name, or its place without one.
    fn state_dict(&self, py: Python<'_>) -> Result<BTreeMap<String, Tensor>, Failure> {
        let state = py.detach(|| self.stepper().optimizer.state())?;
        Ok(state.into_iter().map(|(name, tensor)| (name, tensor.into())).collect())
    }

    /// Take up where state_dict() was: the next step is the same, bit for bit. Values are what Tensor() takes.
    ///
    /// Raises CheckpointError for a tensor that is missing, ShapeError; nothing has changed then.
    fn load_state_dict(&self, py: Python<'_>, state: &Bound<'_, PyAny>) -> Result<(), Failure> {
        let read = |item: PyResult<Bound<'_, PyAny>>| {
            let (name, value): (String, Bound<'_, PyAny>) = item?.extract()?;
            Ok((name, Tensor::elements_of(&value)?))
        };
        let state = state.call_method0("items")?.try_iter()?.map(read).collect::<Result<State, Failure>>()?;
        Ok(py.detach(|| self.stepper().optimizer.restore(&state))?)
    }
}

/// Adam with decoupled weight decay.
///
/// m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, and
/// w = w (1 - lr weight_decay) - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps). parameters are nn.Parameter, or pairs
/// of a name and one, as named_parameters() gives; weight_decay is for those that decay. With moments="8bit" those that
/// decay keep m and v as codes of eight bits in blocks of 256. Raises OptionError.
/// Sources: arXiv 1711.05101; the defaults are those of BitNet b1.58; arXiv 2110.02861 for eight bits.
#[pyclass(frozen, extends = Optimizer, module = "bitnet_rust.optim")]
pub(crate) struct AdamW;

#[pymethods]
impl AdamW {
    #[new]
    #[pyo3(signature = (parameters, lr = 1e-3, *, betas = (0.9, 0.95), eps = 1e-8, weight_decay = 0.1, moments = "f32"),
           text_signature = "(parameters, lr=1e-3, *, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, moments='f32')")]
    fn new(
        parameters: &Bound<'_, PyAny>,
        lr: f64,
        betas: (f64, f64),
        eps: f64,
        weight_decay: f64,
        moments: &str,
    ) -> Result<PyClassInitializer<Self>, Failure> {
        let parameters = distinct(parameters)?;
        let betas = [share("betas", betas.0)?, share("betas", betas.1)?];
        let eps = not_negative("eps", eps)?;
        let moments = moment_format(moments)?;
        let options = AdamWOptions { betas, eps, moments, ..AdamWOptions::default() };
        let optimizer = optim::AdamW::new(parameters.clone(), options);
        let base = Optimizer::new(parameters, optimizer, (lr, weight_decay))?;
        Ok(PyClassInitializer::from(base).add_subclass(Self))
    }
}

fn moment_format(name: &str) -> Result<MomentFormat, Error> {
    match name {
        "f32" => Ok(MomentFormat::Float32),
        "8bit" => Ok(MomentFormat::EightBit),
        got => Err(Error::InvalidOption { name: "moments", expected: "f32 or 8bit", got: got.to_owned() }),
    }
}

/// Gradient descent with momentum.
///
/// u = momentum u + g, w = w (1 - lr weight_decay) - lr u, or lr (g + momentum u) with nesterov. parameters as of AdamW.
/// Raises OptionError.
#[pyclass(frozen, extends = Optimizer, name = "SGD", module = "bitnet_rust.optim")]
pub(crate) struct Sgd;

#[pymethods]
impl Sgd {
    #[new]
    #[pyo3(signature = (parameters, lr, *, momentum = 0.0, nesterov = false, weight_decay = 0.0))]
    fn new(
        parameters: &Bound<'_, PyAny>,
        lr: f64,
        momentum: f64,
        nesterov: bool,
        weight_decay: f64,
    ) -> Result<PyClassInitializer<Self>, Failure> {
        let parameters = distinct(parameters)?;
        let momentum = share("momentum", momentum)?;
        let options = SgdOptions { momentum, is_nesterov: nesterov, ..SgdOptions::default() };
        let optimizer = optim::Sgd::new(parameters.clone(), options);
        let base = Optimizer::new(parameters, optimizer, (lr, weight_decay))?;
        Ok(PyClassInitializer::from(base).add_subclass(Self))
    }
}

/// Parameters that are there, once each, by names that differ.
fn distinct(object: &Bound<'_, PyAny>) -> Result<Vec<Parameter>, Failure> {
    let parameters = parameters(object)?;
    let invalid = |expected, got: &str| {
        Err(Error::InvalidOption { name: "parameters", expected, got: got.to_owned() }.into())
    };
    if parameters.is_empty() {
        return invalid("at least one parameter", "none");
    }
    let mut names = BTreeSet::new();
    for (place, parameter) in parameters.iter().enumerate() {
        let is_again = |other: &Parameter| other.variable().is(parameter.variable());
        if !names.insert(parameter.name()) || parameters[..place].iter().any(is_again) {
            return invalid("parameters with names of their own, once each", parameter.name());
        }
    }
    Ok(parameters)
}
