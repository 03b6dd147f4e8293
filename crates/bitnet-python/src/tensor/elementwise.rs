//! Functions of one element.

use bitnet_core::{DType, Tensor as Core};
use pyo3::prelude::*;

use super::operand::{Other, Value};
use super::{Tensor, compute};
use crate::error::Failure;

#[pymethods]
impl Tensor {
    /// e^x. Floats keep their type, all others give f32, here and in the functions below.
    fn exp(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::exp)
    }

    /// The natural logarithm.
    fn log(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::log)
    }

    /// The square root.
    fn sqrt(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::sqrt)
    }

    /// 1 / sqrt(x).
    fn rsqrt(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::rsqrt)
    }

    /// The sine.
    fn sin(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::sin)
    }

    /// The cosine.
    fn cos(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::cos)
    }

    /// The hyperbolic tangent.
    fn tanh(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::tanh)
    }

    /// 1 / (1 + e^-x).
    fn sigmoid(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::sigmoid)
    }

    /// x / (1 + e^-x).
    fn silu(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::silu)
    }

    /// max(x, 0), in the type of the tensor.
    fn relu(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::relu)
    }

    /// |x|, in the type of the tensor; integers wrap.
    fn abs(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::abs)
    }

    /// The nearest integer, the even one of two, in the type of the tensor.
    fn round(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::round)
    }

    /// Whether an element is NaN: bool.
    fn isnan(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::is_nan)
    }

    /// min(max(x, low), high); either bound may be None. NaN stays.
    #[pyo3(signature = (low = None, high = None))]
    fn clip(&self, py: Python<'_>, low: Option<Other>, high: Option<Other>) -> Result<Self, Failure> {
        let value = |bound: Option<Other>| bound.map(|bound| bound.0).transpose();
        let (low, high) = (value(low)?, value(high)?);
        let operand = Value::operand;
        self.compute(py, |x| x.clip(low.as_ref().map(operand), high.as_ref().map(operand)))
    }

    /// Elements of a where condition is not 0, of b elsewhere; all three broadcast.
    #[staticmethod]
    fn r#where(py: Python<'_>, condition: &Bound<'_, Self>, a: Other, b: Other) -> Result<Self, Failure> {
        let condition = &condition.get().inner;
        // A number takes the type of the other.
        let (a, b) = match (a.0?, b.0?) {
            (a, Value::Tensor(b)) => (a.operand().beside(b.dtype())?, b),
            (a, b) => {
                let a = a.operand().beside(DType::Bool)?;
                let b = b.operand().beside(a.dtype())?;
                (a, b)
            }
        };
        compute(py, condition.len().max(a.len()).max(b.len()), || Core::choose(condition, &a, &b))
    }
}
