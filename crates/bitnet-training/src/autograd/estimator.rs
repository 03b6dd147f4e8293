//! What the derivative of rounding is taken to be.

use crate::{Error, Result};

/// What the derivative of rounding is taken to be: a straight-through estimator.
///
/// With `Q` the rounding, `y = Q(x) Q(W)^T`, `dx = dy Q(W)`, `dW = dy^T Q(x)`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Estimator {
    /// 1 (arXiv 1308.3432), as BitNet b1.58 was trained (arXiv 2402.17764).
    #[default]
    Plain,
    /// 1 where `|W| <= limit mean|W|`, else 0: weights that are clipped far beyond their code stop there (arXiv 1602.02830
    /// has a limit of 1).
    Clipped {
        /// In units of the scale.
        limit: f32,
    },
    /// 1, of `W + lambda (Q(W) - W)` and `x + lambda (Q(x) - x)`, which stand for `Q(W)` and `Q(x)` everywhere: from full
    /// precision at 0 to [`Self::Plain`] at 1, to convert a pretrained model. Below 1 the product is one of floats.
    Ramp {
        /// From 0 to 1.
        lambda: f32,
    },
}

impl Estimator {
    /// Errors: [`Error::InvalidOption`] for a limit that is not positive, or a lambda outside of 0 to 1.
    pub fn check(self) -> Result<()> {
        let invalid =
            |name, expected, got: f32| Error::InvalidOption { name, expected, got: got.to_string() };
        match self {
            Self::Clipped { limit } if limit.is_nan() || limit <= 0.0 => {
                Err(invalid("limit", "above 0", limit))
            }
            Self::Ramp { lambda } if !(0.0..=1.0).contains(&lambda) => {
                Err(invalid("lambda", "from 0 to 1", lambda))
            }
            _ => Ok(()),
        }
    }

    /// How much of a value is the quantized one.
    pub(super) fn lambda(self) -> f32 {
        match self {
            Self::Plain | Self::Clipped { .. } => 1.0,
            Self::Ramp { lambda } => lambda,
        }
    }
}
