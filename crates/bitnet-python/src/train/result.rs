//! What a run tells, and what it has made.

use std::path::PathBuf;

use bitnet_training::metrics::{LossParts, Metrics};
use bitnet_training::trainer::Trained;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::Failure;

/// The figures of one step of a run.
#[pyclass(frozen, get_all, module = "bitnet_rust")]
pub(crate) struct TrainStep {
    /// Steps that were done, this one included.
    step: u64,
    /// Steps of the run.
    steps: u64,
    /// Mean cross-entropy of its batch, nats per token.
    loss: f64,
    /// Learning rate.
    lr: f64,
    /// Euclidean norm of all gradients, before clipping to 1.
    grad_norm: f64,
    /// Divergence of the logits from those of the teacher, nats; None without one.
    logit_kl: Option<f64>,
    /// The same of the attention relations.
    relation_kl: Option<f64>,
    /// Tokens of its batch over the seconds it took.
    tokens_per_s: f64,
    /// Loss on the data of evaluation behind this step, nats per token; None where it was not measured.
    eval_loss: Option<f64>,
}

impl TrainStep {
    pub(super) fn new(metrics: &Metrics, steps: u64) -> Self {
        let Metrics { step, loss, lr, grad_norm, parts, tokens_per_s, eval_loss } = *metrics;
        let LossParts { logit_kl, relation_kl } = parts;
        Self { step, steps, loss, lr, grad_norm, logit_kl, relation_kl, tokens_per_s, eval_loss }
    }
}

#[pymethods]
impl TrainStep {
    fn __repr__(&self) -> String {
        let Self { step, steps, loss, .. } = self;
        let eval = self.eval_loss.map(|loss| format!(", eval_loss={loss:.4}")).unwrap_or_default();
        format!("TrainStep({step} of {steps}, loss={loss:.4}{eval})")
    }
}

/// What a run of training has made.
#[pyclass(frozen, get_all, module = "bitnet_rust")]
pub(crate) struct TrainResult {
    /// The folder of the run: checkpoints, metrics, loss curve.
    output: PathBuf,
    /// The folder of the trained model, a master in bfloat16; or of the adapter.
    model: PathBuf,
    /// The model that an adapter was trained beside; None where it was the model itself.
    base: Option<String>,
    /// Steps of the run.
    steps: u64,
    /// The step that the model is of: that with the least loss of evaluation, or the last.
    model_step: u64,
    /// Mean cross-entropy of the last batch, nats per token.
    loss: Option<f64>,
    /// Loss of the model on the data of evaluation, nats per token; None without such data.
    eval_loss: Option<f64>,
    /// Parameters that were trained.
    trained_parameters: usize,
    /// All of them.
    parameters: usize,
    /// The figures of all steps, those before a resumption included.
    history: Vec<Py<TrainStep>>,
    /// What the model wrote for sample_prompt since the run was begun or resumed: (step, text).
    samples: Vec<(u64, String)>,
    /// A line for each time that the run went back to a checkpoint, with what was wrong.
    rolled_back: Vec<String>,
}

impl TrainResult {
    pub(super) fn new(
        py: Python<'_>,
        (output, base): (PathBuf, Option<String>),
        trained: Trained,
        metrics: &[Metrics],
        (samples, rolled_back): (Vec<(u64, String)>, Vec<String>),
    ) -> Result<Self, Failure> {
        let Trained { model, steps, model_step, loss, eval_loss, trained_parameters, parameters } = trained;
        let history = metrics.iter().map(|metrics| Py::new(py, TrainStep::new(metrics, steps)));
        let history = history.collect::<PyResult<_>>()?;
        Ok(Self {
            output,
            model,
            base,
            steps,
            model_step,
            loss,
            eval_loss,
            trained_parameters,
            parameters,
            history,
            samples,
            rolled_back,
        })
    }
}

#[pymethods]
impl TrainResult {
    /// The loss of each step, nats per token.
    #[getter]
    fn losses(&self) -> Vec<f64> {
        self.history.iter().map(|step| step.get().loss).collect()
    }

    /// exp(eval_loss).
    #[getter]
    fn eval_perplexity(&self) -> Option<f64> {
        self.eval_loss.map(f64::exp)
    }

    /// The trained model, or the model with its adapter, ready to run. Options are those of load().
    #[pyo3(signature = (**options))]
    fn load<'py>(
        &self,
        py: Python<'py>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let load = py.import("bitnet_rust._native")?.getattr("load")?;
        let Some(base) = &self.base else { return load.call((&self.model,), options) };
        let options = options.map_or_else(|| Ok(PyDict::new(py)), PyDictMethods::copy)?;
        options.set_item("adapter", &self.model)?;
        load.call((base,), Some(&options))
    }

    fn __repr__(&self) -> String {
        let Self { model, steps, .. } = self;
        let eval = self.eval_loss.map(|loss| format!(", eval_loss={loss:.4}")).unwrap_or_default();
        format!("TrainResult({:?}, {steps} steps{eval})", model.display().to_string())
    }
}
