//! Gradients as Python sees them.

use bitnet_core::DType;
use bitnet_training::{Variable, autograd};
use pyo3::prelude::*;

use super::recorded::Recorded;
use super::{Kind, Tensor, on_threads};
use crate::error::{Failure, exception};

/// Whether the operations of this thread note how gradients flow; returns whether they did. See no_grad().
#[pyfunction]
pub(crate) fn set_recording(records: bool) -> bool {
    autograd::set_recording(records)
}

impl Tensor {
    /// A tensor that collects its gradient, over the same memory.
    pub(crate) fn leaf(&self) -> Result<Self, Failure> {
        match &self.0 {
            Kind::Plain(value) => Ok(Self::of_leaf(Variable::leaf(value.clone())?)),
            Kind::Recorded(_) => {
                let message = "the tensor has a gradient already: detach() it for one of its own";
                Err(exception("GradientError", message).into())
            }
        }
    }

    /// A leaf of the tape.
    pub(crate) fn of_leaf(variable: Variable) -> Self {
        Self(Kind::Recorded(Recorded { variable, work: 0 }))
    }

    /// The variable that it is, if it is one.
    pub(crate) fn as_variable(&self) -> Option<&Variable> {
        match &self.0 {
            Kind::Plain(_) => None,
            Kind::Recorded(recorded) => Some(&recorded.variable),
        }
    }
}

#[pymethods]
impl Tensor {
    /// Whether gradients flow to it: of a leaf made with requires_grad, or of what was computed from one.
    #[getter]
    pub(super) fn requires_grad(&self) -> bool {
        matches!(self.0, Kind::Recorded(_))
    }

    /// The sum of the gradients that backward() has left with a leaf, f32 of its shape; None before, and of a result.
    ///
    /// It can be set, to None to begin anew. Raises GradientError unless the tensor is a leaf, ShapeError, DTypeError.
    #[getter]
    fn grad(&self) -> Option<Self> {
        self.as_variable()?.gradient().map(Self::from)
    }

    #[setter]
    fn set_grad(&self, gradient: Option<&Bound<'_, Self>>) -> Result<(), Failure> {
        let gradient = gradient.map(|gradient| float32(gradient.get())).transpose()?;
        match self.as_variable() {
            Some(variable) => Ok(variable.set_gradient(gradient)?),
            None => Err(bitnet_training::Error::NoGradient.into()),
        }
    }

    /// Add to every leaf that this was computed from the gradient of sum(gradient * self), with ones for a tensor of one
    /// element.
    ///
    /// What the operations keep for it is freed on the way: a second time raises GradientError, as does a tensor that
    /// nothing flows to. Raises ShapeError.
    #[pyo3(signature = (gradient = None))]
    fn backward(&self, py: Python<'_>, gradient: Option<&Bound<'_, Self>>) -> Result<(), Failure> {
        let gradient = gradient.map(|gradient| float32(gradient.get())).transpose()?;
        let Kind::Recorded(Recorded { variable, work }) = &self.0 else {
            return Err(bitnet_training::Error::NoGradient.into());
        };
        Ok(on_threads(py, *work, || match gradient {
            Some(gradient) => variable.backward_with(gradient),
            None => variable.backward(),
        })?)
    }

    /// The same memory without the notes: nothing flows back from what is computed of it.
    fn detach(&self) -> Self {
        self.value().into_owned().into()
    }
}

/// A gradient.
fn float32(tensor: &Tensor) -> Result<bitnet_core::Tensor, Failure> {
    let value = tensor.constant("a gradient")?;
    if value.dtype() != DType::F32 {
        return Err(bitnet_core::Error::DType { expected: "float32", got: value.dtype() }.into());
    }
    Ok(value.into_owned())
}
