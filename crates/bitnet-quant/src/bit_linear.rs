//! `BitLinear`: a ternary matrix with what may surround it in a checkpoint.

use bitnet_core::{FloatKernels, ThreadPool};

use crate::{Error, QuantizedActivations, Result, TernaryKernel, TernaryMatrix};

/// An RMSNorm in front of one projection (`use_rms_norm` checkpoints).
#[derive(Debug, Clone)]
pub struct InputNorm {
    /// One weight per input.
    pub weight: Vec<f32>,
    /// Added to the mean square.
    pub eps: f32,
}

/// `y = quantize(norm(x)) . W_q^T * weight_scale / activation_scale + bias`.
///
/// Norm and bias are there when the checkpoint has them. Activations are int8 per token, sums are exact.
#[derive(Debug, Clone)]
pub struct BitLinear {
    weight: TernaryMatrix,
    bias: Option<Vec<f32>>,
    norm: Option<InputNorm>,
}

impl BitLinear {
    /// A layer of these parts.
    ///
    /// Errors: [`Error::Length`] when the bias is not one value per row or the norm not one per column.
    pub fn new(weight: TernaryMatrix, bias: Option<Vec<f32>>, norm: Option<InputNorm>) -> Result<Self> {
        if let Some(bias) = bias.as_ref().filter(|bias| bias.len() != weight.rows()) {
            return Err(Error::Length { what: "bias", expected: weight.rows(), got: bias.len() });
        }
        if let Some(norm) = norm.as_ref().filter(|norm| norm.weight.len() != weight.cols()) {
            return Err(Error::Length {
                what: "norm weight",
                expected: weight.cols(),
                got: norm.weight.len(),
            });
        }
        Ok(Self { weight, bias, norm })
    }

    /// The weights.
    pub fn weight(&self) -> &TernaryMatrix {
        &self.weight
    }

    /// One value per output, where there is a bias.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// The norm in front of the quantization, where there is one.
    pub fn norm(&self) -> Option<&InputNorm> {
        self.norm.as_ref()
    }

    /// Normalises (into `scratch`, as long as `x`) where the layer has a norm, then quantizes into `quantized`.
    ///
    /// Layers without a norm that share an input share the result.
    pub fn quantize_input(
        &self,
        pool: &ThreadPool,
        floats: &FloatKernels,
        x: &[f32],
        scratch: &mut [f32],
        quantized: &mut QuantizedActivations,
    ) {
        let cols = self.weight.cols();
        match &self.norm {
            None => quantized.quantize(pool, floats, x, cols),
            Some(norm) => {
                let scratch = &mut scratch[..x.len()];
                for (x, out) in x.chunks_exact(cols).zip(scratch.chunks_exact_mut(cols)) {
                    floats.rms_norm(x, &norm.weight, norm.eps, out);
                }
                quantized.quantize(pool, floats, scratch, cols);
            }
        }
    }

    /// The product with an input that [`Self::quantize_input`] prepared; `out` is `[tokens, rows]`.
    pub fn forward(
        &self,
        pool: &ThreadPool,
        kernel: &TernaryKernel,
        x: &QuantizedActivations,
        out: &mut [f32],
    ) -> Result<()> {
        kernel.matmul(pool, &self.weight, x, self.bias.as_deref(), out)
    }
}

#[cfg(test)]
mod tests {
    use bitnet_core::Isa;

    use super::*;

    #[test]
    fn the_norm_comes_before_the_quantization() {
        let weight = TernaryMatrix::from_codes(1, 2, &[1, 1], 2.0).unwrap();
        let norm = InputNorm { weight: vec![1.0, 3.0], eps: 0.0 };
        let layer = BitLinear::new(weight, Some(vec![0.5]), Some(norm)).unwrap();
        let pool = ThreadPool::new(1).unwrap();
        let floats = FloatKernels::new(Isa::Scalar).unwrap();
        let mut quantized = QuantizedActivations::default();
        // mean square 1, so normalised [1, -3] and quantized [42, -127] at scale 127 / 3.
        layer.quantize_input(&pool, &floats, &[1.0, -1.0], &mut [0.0; 2], &mut quantized);
        assert_eq!(quantized.codes(), [42, -127]);
        let mut out = [0.0];
        layer.forward(&pool, &TernaryKernel::new(Isa::Scalar).unwrap(), &quantized, &mut out).unwrap();
        assert!((out[0] - (-85.0 * 2.0 / (127.0 / 3.0) + 0.5)).abs() < 1e-5);
    }

    #[test]
    fn parts_that_do_not_fit_are_errors() {
        let weight = || TernaryMatrix::from_codes(1, 2, &[1, 1], 2.0).unwrap();
        assert!(BitLinear::new(weight(), Some(vec![0.0; 2]), None).is_err());
        let norm = InputNorm { weight: vec![1.0], eps: 0.0 };
        assert!(BitLinear::new(weight(), None, Some(norm)).is_err());
    }
}
