//! Python's operators.

use bitnet_core::Tensor as Core;
use bitnet_training::Variable;
use pyo3::basic::CompareOp;
use pyo3::prelude::*;

use super::Tensor;
use super::operand::{Other, Value};
use super::recorded::record;
use crate::error::Failure;

#[pymethods]
impl Tensor {
    /// An array on the left leaves the operation to the tensor, which knows its gradient.
    #[classattr]
    #[pyo3(name = "__array_priority__")]
    const ARRAY_PRIORITY: f64 = 1000.0;

    fn __add__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.add(other), Variable::add)
    }

    fn __radd__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.add(other), Variable::add)
    }

    fn __sub__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.sub(other), Variable::sub)
    }

    fn __rsub__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.sub(other), Variable::sub)
    }

    fn __mul__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.mul(other), Variable::mul)
    }

    fn __rmul__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.mul(other), Variable::mul)
    }

    fn __truediv__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.div(other), Variable::div)
    }

    fn __rtruediv__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.div(other), Variable::div)
    }

    fn __floordiv__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with_constant(py, "//", other, |x, other| x.floor_div(other))
    }

    fn __rfloordiv__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after_constant(py, "//", other, |x, other| x.floor_div(other))
    }

    fn __mod__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with_constant(py, "%", other, |x, other| x.rem(other))
    }

    fn __rmod__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after_constant(py, "%", other, |x, other| x.rem(other))
    }

    fn __pow__(&self, py: Python<'_>, other: Other, _modulo: Option<Py<PyAny>>) -> Result<Self, Failure> {
        let exponent = other.0.as_ref().ok().and_then(Value::scalar);
        let (Some(recorded), Some(exponent)) = (self.recorded(), exponent) else {
            return self.with(py, other, |x, other| x.pow(other), Variable::power);
        };
        let (x, exponent) = (&recorded.variable, exponent.to_f64() as f32);
        record(py, self.value().len(), &[self], || x.pow(exponent))
    }

    fn __rpow__(&self, py: Python<'_>, other: Other, _modulo: Option<Py<PyAny>>) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.pow(other), Variable::power)
    }

    fn __and__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with_constant(py, "&", other, |x, other| x.bit_and(other))
    }

    fn __rand__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after_constant(py, "&", other, |x, other| x.bit_and(other))
    }

    fn __or__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with_constant(py, "|", other, |x, other| x.bit_or(other))
    }

    fn __ror__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after_constant(py, "|", other, |x, other| x.bit_or(other))
    }

    fn __xor__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with_constant(py, "^", other, |x, other| x.bit_xor(other))
    }

    fn __rxor__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after_constant(py, "^", other, |x, other| x.bit_xor(other))
    }

    fn __matmul__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.product(py, &other.0?.beside(self.value().dtype())?)
    }

    fn __rmatmul__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        other.0?.beside(self.value().dtype())?.product(py, self)
    }

    fn __richcmp__(&self, py: Python<'_>, other: Other, operator: CompareOp) -> Result<Self, Failure> {
        self.observe_with(py, other, |x, other| match operator {
            CompareOp::Lt => x.lt(other),
            CompareOp::Le => x.le(other),
            CompareOp::Eq => x.eq(other),
            CompareOp::Ne => x.ne(other),
            CompareOp::Gt => x.gt(other),
            CompareOp::Ge => x.ge(other),
        })
    }

    fn __neg__(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, Core::neg, Variable::neg)
    }

    fn __pos__(&self) -> Self {
        self.clone()
    }

    fn __abs__(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map(py, Core::abs, Variable::abs)
    }

    fn __invert__(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.map_constant(py, "~", Core::not)
    }

    /// The greater of two, element by element; NaN where one is.
    pub(super) fn maximum(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.maximum(other), Variable::maximum)
    }

    /// The lesser of two, element by element; NaN where one is.
    pub(super) fn minimum(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.minimum(other), Variable::minimum)
    }
}
