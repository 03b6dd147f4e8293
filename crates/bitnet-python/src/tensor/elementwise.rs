//! Functions of one element.

use bitnet_core::tensor::Operand;
use bitnet_core::{DType, Tensor as Core};
use bitnet_inference::activation::Activation;
use bitnet_training::Variable;
use pyo3::prelude::*;

use super::operand::Other;
use super::recorded::record;
use super::{Tensor, compute};
use crate::error::Failure;

#[pymethods]
impl Tensor {
    /// e^x. Floats keep their type, all others give f32, here and in the functions below.
    fn exp(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, Core::exp, Variable::exp)
    }

    /// The natural logarithm.
    fn log(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, Core::log, Variable::log)
    }

    /// The square root.
    fn sqrt(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, Core::sqrt, Variable::sqrt)
    }

    /// 1 / sqrt(x).
    fn rsqrt(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, Core::rsqrt, Variable::rsqrt)
    }

    /// The sine.
    fn sin(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, Core::sin, Variable::sin)
    }

    /// The cosine.
    fn cos(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, Core::cos, Variable::cos)
    }

    /// The hyperbolic tangent.
    fn tanh(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, Core::tanh, Variable::tanh)
    }

    /// 1 / (1 + e^-x).
    fn sigmoid(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, Core::sigmoid, Variable::sigmoid)
    }

    /// x / (1 + e^-x).
    fn silu(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, Core::silu, |x| x.activated(Activation::Silu))
    }

    /// max(x, 0), in the type of the tensor.
    fn relu(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, Core::relu, Variable::relu)
    }

    /// |x|, in the type of the tensor; integers wrap.
    fn abs(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, Core::abs, Variable::abs)
    }

    /// The nearest integer, the even one of two, in the type of the tensor.
    fn round(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map_constant(py, "round()", Core::round)
    }

    /// Whether an element is NaN: bool.
    fn isnan(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.observe(py, Core::is_nan)
    }

    /// min(max(x, low), high); either bound may be None. NaN stays.
    #[pyo3(signature = (low = None, high = None))]
    fn clip(&self, py: Python<'_>, low: Option<Other>, high: Option<Other>) -> Result<Self, Failure> {
        let raised = low.map_or_else(|| Ok(self.clone()), |low| self.maximum(py, low))?;
        high.map_or_else(|| Ok(raised.clone()), |high| raised.minimum(py, high))
    }

    /// Elements of a where condition is not 0, of b elsewhere; all three broadcast.
    #[staticmethod]
    fn r#where(py: Python<'_>, condition: &Bound<'_, Self>, a: Other, b: Other) -> Result<Self, Failure> {
        let condition = condition.get().value();
        let (a, b) = (a.0?, b.0?);
        // A number takes the type of the other.
        let (a, b) = match b.operand() {
            Operand::Tensor(tensor) => (a.beside(tensor.dtype())?, b.beside(DType::Bool)?),
            Operand::Scalar(_) => {
                let a = a.beside(DType::Bool)?;
                let dtype = a.value().dtype();
                (a, b.beside(dtype)?)
            }
        };
        let work = condition.len().max(a.value().len()).max(b.value().len());
        if a.recorded().is_none() && b.recorded().is_none() {
            return compute(py, work, || Core::choose(&condition, &a.value(), &b.value()));
        }
        let (x, y) = (a.variable()?, b.variable()?);
        record(py, work, &[&a, &b], || Variable::choose(&condition, &x, &y))
    }
}
