//! Layer normalisation.

use bitnet_core::{DType, Tensor};

use super::Variable;
use super::elementwise::{sum_to, wanted};
use crate::Result;

/// `y_i = w_i n_i + b_i`, `n_i = (x_i - mean(x)) r`, `r = 1 / sqrt(var(x) + eps)`, along the last dimension; `w` and `b`
/// are `[width]` (arXiv 1607.06450).
///
/// With `g = w dy`: `dx = r (g - mean(g) - n mean(g n))`, `dw = sum over rows of dy n`, `db = sum over rows of dy`.
///
/// Errors: [`bitnet_core::Error::Shapes`], [`bitnet_core::Error::Rank`].
pub fn layer_norm(x: &Variable, w: &Variable, b: &Variable, eps: f32) -> Result<Variable> {
    let (x_value, w_value) = (x.value(), w.value());
    let y = x_value.layer_norm(Some(&w_value), Some(&b.value()), eps)?;
    Ok(Variable::result(y, [x, w, b], move |dy, [wants_x, wants_w, wants_b]| {
        let n = x_value.layer_norm(None, None, eps)?;
        let to_width = |gradient: &Tensor| sum_to(gradient, w_value.dims());
        Ok([
            wanted(wants_x, || {
                let g = dy.mul(&w_value)?;
                let along = n.mul(&mean(&g.mul(&n)?)?)?;
                Ok(g.sub(&mean(&g)?)?.sub(&along)?.mul(&factor(&x_value, eps)?)?)
            })?,
            wanted(wants_w, || to_width(&dy.mul(&n)?))?,
            wanted(wants_b, || to_width(&dy))?,
        ])
    }))
}

/// `r` of each row. In float64, as the rows were normalised.
fn factor(x: &Tensor, eps: f32) -> Result<Tensor> {
    let width = x.dims()[x.rank() - 1];
    let factor = |row: &[f32]| {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / width as f64;
        (1.0 / (variance + f64::from(eps)).sqrt()) as f32
    };
    let factors: Vec<f32> = x.to_vec::<f32>()?.chunks_exact(width.max(1)).map(factor).collect();
    let mut dims = x.dims().to_vec();
    dims[x.rank() - 1] = 1;
    if factors.is_empty() {
        return Ok(Tensor::zeros(dims, DType::F32)?);
    }
    Ok(Tensor::from_vec(factors, dims)?)
}

fn mean(x: &Tensor) -> Result<Tensor> {
    Ok(x.mean(Some(&[-1]), true)?)
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};
    use super::*;

    #[test]
    fn rows_weights_and_biases() {
        const EPS: f32 = 1e-3;
        check(
            &[(&[2, 2, 5], wave(20, 0.2)), (&[5], wave(5, 0.9)), (&[5], wave(5, 1.3))],
            |x| layer_norm(&x[0], &x[1], &x[2], EPS),
            |x| {
                let normalised = |row: &[f64]| -> Vec<f64> {
                    let mean = row.iter().sum::<f64>() / 5.0;
                    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 5.0;
                    let factor = 1.0 / (variance + f64::from(EPS)).sqrt();
                    (0..5).map(|i| x[1][i] * (row[i] - mean) * factor + x[2][i]).collect()
                };
                x[0].chunks(5).flat_map(normalised).collect()
            },
        );
    }
}
