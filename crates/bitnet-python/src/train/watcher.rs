//! The callbacks of a run.

use std::ops::ControlFlow;

use bitnet_training::metrics::Metrics;
use bitnet_training::trainer::{Observer, Outcome, Progress, RolledBack, Sample, Trained};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::TrainStep;
use crate::error::{Failure, exception};

/// Tells callables of each step, and stops the run when one raises, or at Ctrl-C.
pub(super) struct Watcher {
    callbacks: Vec<Py<PyAny>>,
    raised: Option<PyErr>,
    /// What the model wrote, behind which steps.
    pub(super) samples: Vec<(u64, String)>,
    /// What went wrong, and where the run went back to.
    pub(super) rolled_back: Vec<String>,
}

impl Watcher {
    /// Raises TypeError for what cannot be called.
    pub(super) fn new(callbacks: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let mut all = Vec::new();
        for callback in callbacks.map(PyAnyMethods::try_iter).transpose()?.into_iter().flatten() {
            let callback = callback?;
            if !callback.is_callable() {
                return Err(PyTypeError::new_err(format!("callbacks must be callable, not {callback}")));
            }
            all.push(callback.unbind());
        }
        Ok(Self { callbacks: all, raised: None, samples: Vec::new(), rolled_back: Vec::new() })
    }

    /// What has ended, unless it was stopped: then what was raised, behind an error of saving the run.
    pub(super) fn judge(
        &mut self,
        py: Python<'_>,
        ended: Result<(Outcome, Vec<Metrics>), Failure>,
    ) -> Result<(Trained, Vec<Metrics>), Failure> {
        match (ended, self.raised.take()) {
            (Err(failure), Some(raised)) => {
                let error = PyErr::from(failure);
                error.set_cause(py, Some(raised));
                Err(error.into())
            }
            (Err(failure), None) => Err(failure),
            (Ok(_), Some(raised)) => Err(raised.into()),
            (Ok((Outcome::Trained(trained), metrics)), None) => Ok((trained, metrics)),
            (Ok((Outcome::Stopped { step }, _)), None) => {
                Err(exception("BitNetError", &format!("stopped behind step {step}")).into())
            }
        }
    }

    fn tell(&self, progress: &Progress<'_>) -> PyResult<()> {
        Python::attach(|py| {
            py.check_signals()?;
            if self.callbacks.is_empty() {
                return Ok(());
            }
            let step = Py::new(py, TrainStep::new(progress.metrics, progress.steps))?;
            self.callbacks.iter().try_for_each(|callback| callback.call1(py, (&step,)).map(drop))
        })
    }
}

impl Observer for Watcher {
    fn step(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        match self.tell(progress) {
            Ok(()) => ControlFlow::Continue(()),
            Err(raised) => {
                self.raised = Some(raised);
                ControlFlow::Break(())
            }
        }
    }

    fn sample(&mut self, sample: &Sample) {
        self.samples.push((sample.step, sample.text.clone()));
    }

    fn rolled_back(&mut self, event: &RolledBack) {
        self.rolled_back.push(event.to_string());
    }
}
