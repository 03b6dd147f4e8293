//! Normalization along the last dimension.

use crate::{DType, Error, FloatKernels, Isa, Result, Tensor};

impl Tensor {
    /// `weight_i x_i / sqrt(mean(x^2) + eps)` along the last dimension (RMSNorm, arXiv 1910.07467).
    ///
    /// `weight` is `[n]`, ones when there is none. Floats keep the type of `x`, computed in float32; all others give
    /// `f32`.
    ///
    /// Errors: [`Error::Shapes`] when `weight` is not `[n]`, [`Error::Rank`] of a scalar, [`Error::OutOfMemory`].
    pub fn rms_norm(&self, weight: Option<&Self>, eps: f32) -> Result<Self> {
        let weight = self.one_per_column("rms_norm", weight, 1.0)?;
        let kernels = FloatKernels::new(Isa::selected()?)?;
        self.map_rows(|x, out| kernels.rms_norm(x, &weight, eps, out))
    }

    /// `weight_i (x_i - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) + bias_i` along the last dimension (arXiv
    /// 1607.06450), with the means in float64.
    ///
    /// `weight` and `bias` are `[n]`, ones and zeros when there are none. Types and errors are those of
    /// [`Self::rms_norm`].
    pub fn layer_norm(&self, weight: Option<&Self>, bias: Option<&Self>, eps: f32) -> Result<Self> {
        let weight = self.one_per_column("layer_norm", weight, 1.0)?;
        let bias = self.one_per_column("layer_norm", bias, 0.0)?;
        self.map_rows(|x, out| {
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / x.len() as f64;
            let factor = 1.0 / (variance + f64::from(eps)).sqrt();
            for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(&weight).zip(&bias) {
                *out = weight * ((f64::from(*x) - mean) * factor) as f32 + bias;
            }
        })
    }

    /// A vector as long as the last dimension.
    fn one_per_column(
        &self,
        operation: &'static str,
        vector: Option<&Self>,
        default: f32,
    ) -> Result<Vec<f32>> {
        let Some(&cols) = self.dims().last() else {
            return Err(Error::Rank { operation, expected: 1, shape: self.shape().clone() });
        };
        let Some(vector) = vector else { return Ok(vec![default; cols]) };
        if vector.dims() != [cols] {
            let (a, b) = (self.shape().clone(), vector.shape().clone());
            return Err(Error::Shapes { operation, a, b });
        }
        vector.to_dtype(DType::F32)?.to_vec()
    }
}
