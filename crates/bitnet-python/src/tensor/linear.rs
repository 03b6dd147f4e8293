//! Products, softmax and norms.

use bitnet_core::{DType, Tensor as Core};
use pyo3::prelude::*;

use super::operand::Other;
use super::{Tensor, compute, ternary};
use crate::error::Failure;

/// Multiplications that take as long as an element of other operations.
const PRODUCTS: usize = 16;

impl Tensor {
    /// `a @ b`.
    pub(super) fn product(py: Python<'_>, a: &Core, b: &Core) -> Result<Self, Failure> {
        if a.dtype() == DType::Ternary {
            return ternary::product(py, a, b);
        }
        let cols = b.dims().last().copied().unwrap_or(1);
        let work = a.len().saturating_mul(if b.rank() > 1 { cols } else { 1 }) / PRODUCTS;
        compute(py, work, || a.matmul(b))
    }
}

#[pymethods]
impl Tensor {
    /// The matrix product, as @: [..., m, k] by [..., k, n] gives [..., m, n].
    ///
    /// The dimensions before the last two broadcast; a vector is a row on the left, a column on the right. f16 and bf16
    /// are added in f32 and rounded once; integers wrap in their type, as in NumPy. A packed
    /// ternary matrix [m, k] by i8 [k] or [k, n] gives exact sums in i32. Raises ShapeError, DTypeError.
    fn matmul(&self, py: Python<'_>, other: Other) -> Result<Self, Failure> {
        Self::product(py, &self.inner, &other.beside(self.inner.dtype())?)
    }

    /// e^(x_i - max x) / sum_j e^(x_j - max x) along axis. Floats keep their type, all others give f32.
    #[pyo3(signature = (axis = -1), text_signature = "($self, axis=-1)")]
    fn softmax(&self, py: Python<'_>, axis: isize) -> Result<Self, Failure> {
        self.compute(py, |x| x.softmax(axis))
    }

    /// x_i - max x - log(sum_j e^(x_j - max x)) along axis. Floats keep their type, all others give f32.
    #[pyo3(signature = (axis = -1), text_signature = "($self, axis=-1)")]
    fn log_softmax(&self, py: Python<'_>, axis: isize) -> Result<Self, Failure> {
        self.compute(py, |x| x.log_softmax(axis))
    }

    /// weight_i x_i / sqrt(mean(x^2) + eps) along the last dimension; weight is [n] or ones. Raises ShapeError.
    ///
    /// Floats keep their type, all others give f32. Source: arXiv 1910.07467.
    #[pyo3(signature = (weight = None, *, eps = 1e-5))]
    fn rms_norm(&self, py: Python<'_>, weight: Option<&Bound<'_, Self>>, eps: f32) -> Result<Self, Failure> {
        let weight = weight.map(|weight| &weight.get().inner);
        self.compute(py, |x| x.rms_norm(weight, eps))
    }

    /// weight_i (x_i - mean(x)) / sqrt(var(x) + eps) + bias_i along the last dimension; weight is [n] or ones, bias [n]
    /// or zeros. Raises ShapeError.
    ///
    /// Floats keep their type, all others give f32. Source: arXiv 1607.06450.
    #[pyo3(signature = (weight = None, bias = None, *, eps = 1e-5))]
    fn layer_norm(
        &self,
        py: Python<'_>,
        weight: Option<&Bound<'_, Self>>,
        bias: Option<&Bound<'_, Self>>,
        eps: f32,
    ) -> Result<Self, Failure> {
        let weight = weight.map(|weight| &weight.get().inner);
        let bias = bias.map(|bias| &bias.get().inner);
        self.compute(py, |x| x.layer_norm(weight, bias, eps))
    }
}
