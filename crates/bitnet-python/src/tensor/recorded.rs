//! Tensors on the tape of bitnet-training.
//!
//! A tensor is plain, or a variable. A method gives the operation twice, on tensors and on variables, and one of the
//! functions below chooses: plain operands never come near the tape. What the tape has not asks for [`Tensor::constant`],
//! which refuses a variable whose operations are noted.

use std::borrow::Cow;

use bitnet_core::tensor::Operand;
use bitnet_core::{DType, Tensor as Core};
use bitnet_training::Variable;
use bitnet_training::autograd::is_recording;
use pyo3::prelude::*;

use super::operand::Other;
use super::{Kind, Tensor, compute, on_threads};
use crate::error::{Failure, exception};

/// A tensor that wants its gradient, or was computed of one.
#[derive(Clone)]
pub(crate) struct Recorded {
    pub(super) variable: Variable,
    /// Of the longest chain of operations that leads to it, in elements: what its backward pass is like.
    pub(super) work: usize,
}

/// The result of an operation on variables, which takes about `work` elements, without the GIL.
///
/// `inputs` are what it was computed of, to know the work behind them.
pub(crate) fn record(
    py: Python<'_>,
    work: usize,
    inputs: &[&Tensor],
    operation: impl FnOnce() -> bitnet_training::Result<Variable> + Send,
) -> Result<Tensor, Failure> {
    let before = inputs.iter().map(|input| input.work()).max().unwrap_or(0);
    let variable = on_threads(py, work, operation)?;
    Ok(Tensor::noted(variable, before.saturating_add(work)))
}

/// The error of an operation that the tape has not.
pub(super) fn no_gradient(operation: &str) -> Failure {
    let message =
        format!("{operation} has no gradient: detach() the tensor before, or compute it within no_grad()");
    exception("GradientError", &message).into()
}

impl Tensor {
    /// A variable, or the plain tensor where nothing flows back from it.
    pub(super) fn noted(variable: Variable, work: usize) -> Self {
        if variable.wants_gradient() {
            return Self(Kind::Recorded(Recorded { variable, work }));
        }
        variable.value().into()
    }

    /// The variable, where operations on it are noted.
    pub(super) fn recorded(&self) -> Option<&Recorded> {
        match &self.0 {
            Kind::Recorded(recorded) if is_recording() => Some(recorded),
            _ => None,
        }
    }

    fn work(&self) -> usize {
        self.recorded().map_or(0, |recorded| recorded.work)
    }

    /// The value, for an operation without a gradient.
    pub(super) fn constant(&self, operation: &str) -> Result<Cow<'_, Core>, Failure> {
        if self.recorded().is_some() { Err(no_gradient(operation)) } else { Ok(self.value()) }
    }

    /// As an operand on the tape; a plain tensor is a constant of f32, which is what it would be promoted to.
    pub(crate) fn variable(&self) -> Result<Variable, Failure> {
        match &self.0 {
            Kind::Recorded(recorded) => Ok(recorded.variable.clone()),
            Kind::Plain(value) => Ok(Variable::constant(value.to_dtype(DType::F32)?)?),
        }
    }

    /// An operation on every element.
    pub(super) fn map(
        &self,
        py: Python<'_>,
        plain: impl FnOnce(&Core) -> bitnet_core::Result<Core> + Send,
        noted: impl FnOnce(&Variable) -> bitnet_training::Result<Variable> + Send,
    ) -> Result<Self, Failure> {
        let value = self.value();
        match self.recorded() {
            None => compute(py, value.len(), || plain(&value)),
            Some(Recorded { variable, .. }) => record(py, value.len(), &[self], || noted(variable)),
        }
    }

    /// The same without a gradient.
    pub(super) fn map_constant(
        &self,
        py: Python<'_>,
        name: &str,
        operation: impl FnOnce(&Core) -> bitnet_core::Result<Core> + Send,
    ) -> Result<Self, Failure> {
        let value = self.constant(name)?;
        compute(py, value.len(), || operation(&value))
    }

    /// The same whose result is no float, and has no gradient by nature.
    pub(super) fn observe(
        &self,
        py: Python<'_>,
        operation: impl FnOnce(&Core) -> bitnet_core::Result<Core> + Send,
    ) -> Result<Self, Failure> {
        let value = self.value();
        compute(py, value.len(), || operation(&value))
    }

    /// A view, or the like.
    pub(super) fn viewed(
        &self,
        plain: impl FnOnce(&Core) -> bitnet_core::Result<Core>,
        noted: impl FnOnce(&Variable) -> bitnet_training::Result<Variable>,
    ) -> Result<Self, Failure> {
        match self.recorded() {
            None => Ok(plain(&self.value())?.into()),
            Some(Recorded { variable, work }) => Ok(Self::noted(noted(variable)?, *work)),
        }
    }

    /// `operation(self, other)`.
    pub(super) fn with(
        &self,
        py: Python<'_>,
        other: Other,
        plain: impl FnOnce(&Core, Operand<'_>) -> bitnet_core::Result<Core> + Send,
        noted: impl FnOnce(&Variable, &Variable) -> bitnet_training::Result<Variable> + Send,
    ) -> Result<Self, Failure> {
        let (value, other) = (self.value(), other.0?);
        if self.recorded().is_none() && other.recorded().is_none() {
            return compute(py, value.len().max(other.len()), || plain(&value, other.operand()));
        }
        self.note_with(py, &other.beside(DType::F32)?, noted)
    }

    /// `operation(other, self)`.
    pub(super) fn after(
        &self,
        py: Python<'_>,
        other: Other,
        plain: impl FnOnce(&Core, Operand<'_>) -> bitnet_core::Result<Core> + Send,
        noted: impl FnOnce(&Variable, &Variable) -> bitnet_training::Result<Variable> + Send,
    ) -> Result<Self, Failure> {
        let (value, left) = (self.value(), other.0?.beside(self.value().dtype())?);
        if self.recorded().is_none() && left.recorded().is_none() {
            let left = left.value();
            let work = value.len().max(left.len());
            return compute(py, work, || plain(&left, Operand::Tensor(&value)));
        }
        left.note_with(py, self, noted)
    }

    fn note_with(
        &self,
        py: Python<'_>,
        other: &Self,
        noted: impl FnOnce(&Variable, &Variable) -> bitnet_training::Result<Variable> + Send,
    ) -> Result<Self, Failure> {
        let (a, b) = (self.variable()?, other.variable()?);
        let work = self.value().len().max(other.value().len());
        record(py, work, &[self, other], || noted(&a, &b))
    }

    /// `operation(self, other)` without a gradient.
    pub(super) fn with_constant(
        &self,
        py: Python<'_>,
        name: &str,
        other: Other,
        operation: impl FnOnce(&Core, Operand<'_>) -> bitnet_core::Result<Core> + Send,
    ) -> Result<Self, Failure> {
        let (value, other) = (self.constant(name)?, other.0?.constant(name)?);
        compute(py, value.len().max(other.len()), || operation(&value, other.operand()))
    }

    /// `operation(other, self)` without a gradient.
    pub(super) fn after_constant(
        &self,
        py: Python<'_>,
        name: &str,
        other: Other,
        operation: impl FnOnce(&Core, Operand<'_>) -> bitnet_core::Result<Core> + Send,
    ) -> Result<Self, Failure> {
        let value = self.constant(name)?;
        let left = other.0?.constant(name)?.operand().beside(value.dtype())?;
        compute(py, value.len().max(left.len()), || operation(&left, Operand::Tensor(&value)))
    }

    /// `operation(self, other)` whose result is no float.
    pub(super) fn observe_with(
        &self,
        py: Python<'_>,
        other: Other,
        operation: impl FnOnce(&Core, Operand<'_>) -> bitnet_core::Result<Core> + Send,
    ) -> Result<Self, Failure> {
        let (value, other) = (self.value(), other.0?);
        compute(py, value.len().max(other.len()), || operation(&value, other.operand()))
    }
}
