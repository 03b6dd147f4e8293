//! Products, softmax and norms.

use std::borrow::Cow;

use bitnet_core::{DType, Tensor as Core};
use bitnet_training::autograd::{layer_norm, rms_norm};
use pyo3::prelude::*;

use super::operand::Other;
use super::recorded::record;
use super::{Tensor, compute, ternary};
use crate::error::Failure;

/// Multiplications that take as long as an element of other operations.
const PRODUCTS: usize = 16;

impl Tensor {
    /// `self @ other`.
    pub(super) fn product(&self, py: Python<'_>, other: &Self) -> Result<Self, Failure> {
        let (a, b) = (self.value(), other.value());
        if a.dtype() == DType::Ternary {
            let codes = other.constant("a product with packed codes")?;
            return ternary::product(py, &a, &codes);
        }
        let cols = b.dims().last().copied().unwrap_or(1);
        let work = a.len().saturating_mul(if b.rank() > 1 { cols } else { 1 }) / PRODUCTS;
        if self.recorded().is_none() && other.recorded().is_none() {
            return compute(py, work, || a.matmul(&b));
        }
        let (a, b) = (self.variable()?, other.variable()?);
        record(py, work, &[self, other], || a.matmul(&b))
    }

    /// A vector for the last dimension, of `value` where there is none.
    fn or_full<'a>(&self, vector: Option<&'a Self>, value: f32) -> Result<Cow<'a, Self>, Failure> {
        if let Some(vector) = vector {
            return Ok(Cow::Borrowed(vector));
        }
        let width = self.value().dims().last().copied().unwrap_or(1);
        Ok(Cow::Owned(Core::full([width], value, DType::F32)?.into()))
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
        self.product(py, &other.0?.beside(self.value().dtype())?)
    }

    /// e^(x_i - max x) / sum_j e^(x_j - max x) along axis. Floats keep their type, all others give f32.
    #[pyo3(signature = (axis = -1), text_signature = "($self, axis=-1)")]
    fn softmax(&self, py: Python<'_>, axis: isize) -> Result<Self, Failure> {
        self.map(py, |x| x.softmax(axis), |x| x.softmax(axis))
    }

    /// x_i - max x - log(sum_j e^(x_j - max x)) along axis. Floats keep their type, all others give f32.
    #[pyo3(signature = (axis = -1), text_signature = "($self, axis=-1)")]
    fn log_softmax(&self, py: Python<'_>, axis: isize) -> Result<Self, Failure> {
        self.map(py, |x| x.log_softmax(axis), |x| x.log_softmax(axis))
    }

    /// weight_i x_i / sqrt(mean(x^2) + eps) along the last dimension; weight is [n] or ones. Raises ShapeError.
    ///
    /// Floats keep their type, all others give f32. Source: arXiv 1910.07467.
    #[pyo3(signature = (weight = None, *, eps = 1e-5))]
    fn rms_norm(&self, py: Python<'_>, weight: Option<&Bound<'_, Self>>, eps: f32) -> Result<Self, Failure> {
        let weight = weight.map(Bound::get);
        if self.recorded().is_none() && weight.is_none_or(|weight| weight.recorded().is_none()) {
            let (x, weight) = (self.value(), weight.map(Self::value));
            return compute(py, x.len(), || x.rms_norm(weight.as_deref(), eps));
        }
        let weight = self.or_full(weight, 1.0)?;
        let (x, w) = (self.variable()?, weight.variable()?);
        record(py, self.value().len(), &[self, &weight], || rms_norm(&x, &w, eps))
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
        let (weight, bias) = (weight.map(Bound::get), bias.map(Bound::get));
        let is_plain = |tensor: Option<&Self>| tensor.is_none_or(|tensor| tensor.recorded().is_none());
        if self.recorded().is_none() && is_plain(weight) && is_plain(bias) {
            let (x, weight, bias) = (self.value(), weight.map(Self::value), bias.map(Self::value));
            return compute(py, x.len(), || x.layer_norm(weight.as_deref(), bias.as_deref(), eps));
        }
        let (weight, bias) = (self.or_full(weight, 1.0)?, self.or_full(bias, 0.0)?);
        let (x, w, b) = (self.variable()?, weight.variable()?, bias.variable()?);
        record(py, self.value().len(), &[self, &weight, &bias], || layer_norm(&x, &w, &b, eps))
    }
}
