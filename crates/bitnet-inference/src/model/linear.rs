//! Linears as checkpoints have them: ternary, or ordinary floats where a config exempts them.

use bitnet_core::FloatMatrix;
use bitnet_quant::BitLinear;

/// `y = x W^T + b`.
#[derive(Debug, Clone)]
pub enum Linear {
    /// Ternary weights.
    Ternary(BitLinear),
    /// Float weights, float activations.
    Float(FloatLinear),
}

/// An ordinary linear.
#[derive(Debug, Clone)]
pub struct FloatLinear {
    /// `[outputs, inputs]`.
    pub weight: FloatMatrix,
    /// One value per output, where there is a bias.
    pub bias: Option<Vec<f32>>,
}

impl Linear {
    /// Number of outputs.
    pub fn rows(&self) -> usize {
        match self {
            Self::Ternary(linear) => linear.weight().rows(),
            Self::Float(linear) => linear.weight.rows(),
        }
    }

    /// Number of inputs.
    pub fn cols(&self) -> usize {
        match self {
            Self::Ternary(linear) => linear.weight().cols(),
            Self::Float(linear) => linear.weight.cols(),
        }
    }

    /// Number of weights, the bias not counted.
    pub fn weights(&self) -> usize {
        match self {
            Self::Ternary(linear) => linear.weight().rows() * linear.weight().cols(),
            Self::Float(linear) => linear.weight.rows() * linear.weight.cols(),
        }
    }

    /// Bytes of the weights, which a decoded token reads once.
    pub fn weight_bytes(&self) -> usize {
        match self {
            Self::Ternary(linear) => {
                let scales = linear.weight().scales().values();
                linear.weight().packed().len() + if scales.len() > 1 { size_of_val(scales) } else { 0 }
            }
            Self::Float(linear) => linear.weight.size_bytes(),
        }
    }

    /// Elements of bias and norm, where there are any.
    pub fn vector_elements(&self) -> usize {
        match self {
            Self::Ternary(linear) => {
                linear.bias().map_or(0, <[f32]>::len) + linear.norm().map_or(0, |norm| norm.weight.len())
            }
            Self::Float(linear) => linear.bias.as_ref().map_or(0, Vec::len),
        }
    }
}
