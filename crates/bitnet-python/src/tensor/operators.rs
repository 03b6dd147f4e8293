//! Python's operators.

use bitnet_core::Tensor as Core;
use bitnet_core::tensor::Operand;
use pyo3::basic::CompareOp;
use pyo3::prelude::*;

use super::operand::Other;
use super::{Tensor, compute};
use crate::error::Failure;

impl Tensor {
    /// `operation(self, other)`.
    fn with(
        &self,
        py: Python<'_>,
        other: Other,
        operation: impl FnOnce(&Core, Operand<'_>) -> bitnet_core::Result<Core> + Send,
    ) -> Result<Self, Failure> {
        let other = other.0?;
        compute(py, self.inner.len().max(other.len()), || operation(&self.inner, other.operand()))
    }

    /// `operation(other, self)`.
    fn after(
        &self,
        py: Python<'_>,
        other: Other,
        operation: impl FnOnce(&Core, Operand<'_>) -> bitnet_core::Result<Core> + Send,
    ) -> Result<Self, Failure> {
        let left = other.beside(self.inner.dtype())?;
        compute(py, self.inner.len().max(left.len()), || operation(&left, Operand::Tensor(&self.inner)))
    }
}

#[pymethods]
impl Tensor {
    fn __add__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.add(other))
    }

    fn __radd__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.add(other))
    }

    fn __sub__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.sub(other))
    }

    fn __rsub__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.sub(other))
    }

    fn __mul__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.mul(other))
    }

    fn __rmul__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.mul(other))
    }

    fn __truediv__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.div(other))
    }

    fn __rtruediv__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.div(other))
    }

    fn __floordiv__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.floor_div(other))
    }

    fn __rfloordiv__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.floor_div(other))
    }

    fn __mod__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.rem(other))
    }

    fn __rmod__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.rem(other))
    }

    fn __pow__(&self, py: Python<'_>, other: Other, _modulo: Option<Py<PyAny>>) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.pow(other))
    }

    fn __rpow__(&self, py: Python<'_>, other: Other, _modulo: Option<Py<PyAny>>) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.pow(other))
    }

    fn __and__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.bit_and(other))
    }

    fn __rand__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.bit_and(other))
    }

    fn __or__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.bit_or(other))
    }

    fn __ror__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.bit_or(other))
    }

    fn __xor__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.bit_xor(other))
    }

    fn __rxor__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.after(py, other, |x, other| x.bit_xor(other))
    }

    fn __matmul__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        Self::product(py, &self.inner, &other.beside(self.inner.dtype())?)
    }

    fn __rmatmul__(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        Self::product(py, &other.beside(self.inner.dtype())?, &self.inner)
    }

    fn __richcmp__(&self, py: Python<'_>, other: Other, operator: CompareOp) -> Result<Self, Failure> {
        self.with(py, other, |x, other| match operator {
            CompareOp::Lt => x.lt(other),
            CompareOp::Le => x.le(other),
            CompareOp::Eq => x.eq(other),
            CompareOp::Ne => x.ne(other),
            CompareOp::Gt => x.gt(other),
            CompareOp::Ge => x.ge(other),
        })
    }

    fn __neg__(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::neg)
    }

    fn __pos__(&self) -> Self {
        self.clone()
    }

    fn __abs__(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::abs)
    }

    fn __invert__(&self, py: Python<'_>) -> Result<Self, Failure> {
        self.compute(py, Core::not)
    }

    /// The greater of two, element by element; NaN where one is.
    fn maximum(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.maximum(other))
    }

    /// The lesser of two, element by element; NaN where one is.
    fn minimum(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        self.with(py, other, |x, other| x.minimum(other))
    }
}
