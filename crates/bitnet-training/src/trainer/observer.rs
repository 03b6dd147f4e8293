//! Who watches a run.

use std::ops::ControlFlow;
use std::time::Duration;

use super::Sample;
use crate::guard::Trouble;
use crate::metrics::Metrics;

/// Is told how a run goes. `()` is told and says nothing.
pub trait Observer {
    /// A step was done. A break stops the run, which is saved then and can go on.
    fn step(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        let _ = progress;
        ControlFlow::Continue(())
    }

    /// The model has written a text: see [`super::TrainOptions::samples`].
    fn sample(&mut self, sample: &Sample) {
        let _ = sample;
    }

    /// The run went back.
    fn rolled_back(&mut self, event: &RolledBack) {
        let _ = event;
    }
}

impl Observer for () {}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress<'a> {
    /// Figures of the step that was done.
    pub metrics: &'a Metrics,
    /// Steps of the run.
    pub steps: u64,
    /// How long the rest takes if it goes on at the pace so far.
    pub left: Duration,
}

/// A run went back to a checkpoint, and on with a lower rate.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("step {from}: {trouble}; back to step {to}, with {rate_factor} times the learning rate")]
pub struct RolledBack {
    /// The step that went wrong.
    pub from: u64,
    /// The step that it goes on behind.
    pub to: u64,
    /// What was wrong.
    pub trouble: Trouble,
    /// What the recipe's rates are multiplied by from here on.
    pub rate_factor: f32,
}
