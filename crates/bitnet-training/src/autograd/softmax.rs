//! Softmax and its logarithm.

use super::Variable;
use crate::Result;

impl Variable {
    /// `y_i = e^(x_i) / sum_j e^(x_j)` along `axis`; `dx = y (dy - sum_j dy_j y_j)`.
    ///
    /// Errors: [`bitnet_core::Error::Axis`].
    pub fn softmax(&self, axis: isize) -> Result<Self> {
        let y = self.value().softmax(axis)?;
        Ok(Self::result(y.clone(), [self], move |dy, _| {
            let along = dy.mul(&y)?.sum(Some(&[axis]), true)?;
            Ok([Some(dy.sub(&along)?.mul(&y)?)])
        }))
    }

    /// `y_i = x_i - log(sum_j e^(x_j))` along `axis`; `dx = dy - e^y sum_j dy_j`.
    ///
    /// Errors: [`bitnet_core::Error::Axis`].
    pub fn log_softmax(&self, axis: isize) -> Result<Self> {
        let y = self.value().log_softmax(axis)?;
        Ok(Self::result(y.clone(), [self], move |dy, _| {
            let all = dy.sum(Some(&[axis]), true)?;
            Ok([Some(dy.sub(&y.exp()?.mul(&all)?)?)])
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};

    /// Of `[2, 3, 4]` along the dimension in the middle.
    fn softmax(x: &[f64]) -> Vec<f64> {
        let total = |i: usize| (0..3).map(|j| x[i / 12 * 12 + j * 4 + i % 4].exp()).sum::<f64>();
        (0..24).map(|i| x[i].exp() / total(i)).collect()
    }

    #[test]
    fn softmax_and_its_logarithm() {
        let x = || [(&[2, 3, 4][..], wave(24, 0.4))];
        check(&x(), |x| x[0].softmax(1), |x| softmax(&x[0]));
        check(&x(), |x| x[0].log_softmax(-2), |x| softmax(&x[0]).iter().map(|y| y.ln()).collect());
    }
}
