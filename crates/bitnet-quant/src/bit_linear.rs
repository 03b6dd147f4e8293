//! `BitLinear`: a ternary matrix with what may surround it in a checkpoint.

use crate::{Error, Result, TernaryMatrix};

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

    /// Weights, bias and norm.
    pub(crate) fn into_parts(self) -> (TernaryMatrix, Option<Vec<f32>>, Option<InputNorm>) {
        (self.weight, self.bias, self.norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_do_not_fit_are_errors() {
        let weight = || TernaryMatrix::from_codes(1, 2, &[1, 1], 2.0).unwrap();
        assert!(BitLinear::new(weight(), Some(vec![0.0; 2]), None).is_err());
        let norm = InputNorm { weight: vec![1.0], eps: 0.0 };
        assert!(BitLinear::new(weight(), None, Some(norm)).is_err());
    }
}
