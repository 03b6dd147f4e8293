//! Products of low rank, added to others.

use bitnet_core::{LowRank, Tensor};

use super::Variable;
use super::elementwise::wanted;
use super::floats::{Compute, elements, uncleared};
use super::variable::check_shape;
use crate::{Error, Result};

/// `z = y + factor B (A x)` along the last dimension, by the kernel that inference runs: the same bits. `x` is
/// `[.., inputs]`, `y` and `z` `[.., outputs]`, `a` `[rank, inputs]`, `b` `[outputs, rank]`.
///
/// With `t = x A^T` and `g = factor dz B`, both `[tokens, rank]`: `dy = dz`, `dx = g A`, `dA = g^T x`,
/// `dB = factor dz^T t`.
///
/// Errors: those of [`LowRank::new`], [`Error::Shape`].
pub fn add_low_rank(y: &Variable, x: &Variable, a: &Variable, b: &Variable, factor: f32) -> Result<Variable> {
    let (y_value, x_value, a_value, b_value) = (y.value(), x.value(), a.value(), b.value());
    let product = LowRank::new(&a_value, &b_value, factor)?;
    let (inputs, outputs) = (product.inputs(), product.outputs());
    let mut dims = y_value.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = inputs;
    }
    check_shape("the input of an adapter", &dims.clone().into(), &x_value)?;
    let tokens = x_value.len() / inputs;
    let [x_rows, y_rows] = [[tokens, inputs], [tokens, outputs]];
    if y_value.len() != tokens * outputs {
        let (expected, got) = (y_rows.into(), y_value.shape().clone());
        return Err(Error::Shape { what: "what an adapter is added to".to_owned(), expected, got });
    }
    let compute = Compute::new()?;
    let mut z = uncleared(y_value.len())?;
    z.copy_from_slice(&elements(&y_value)?);
    product.add_product(&compute.pool, &compute.kernels, &elements(&x_value)?, &mut z);
    let z = Tensor::from_pool(z, y_value.shape().clone())?;
    Ok(Variable::result(z, [y, x, a, b], move |dz, [wants_y, wants_x, wants_a, wants_b]| {
        let (x, rows) = (x_value.reshape(x_rows)?, dz.reshape(y_rows)?);
        let g = rows.matmul(&b_value)?.mul(factor)?;
        Ok([
            wanted(wants_y, || Ok(dz.clone()))?,
            wanted(wants_x, || Ok(g.matmul(&a_value)?.reshape(dims)?))?,
            wanted(wants_a, || Ok(g.transpose()?.matmul(&x)?))?,
            wanted(wants_b, || {
                let t = x.matmul(&a_value.transpose()?)?;
                Ok(rows.transpose()?.matmul(&t)?.mul(factor)?)
            })?,
        ])
    }))
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};
    use super::*;

    /// `y + factor x A^T B^T` in float64.
    fn exact(values: &[Vec<f64>], [inputs, outputs, rank]: [usize; 3], factor: f64) -> Vec<f64> {
        let [y, x, a, b] = [0, 1, 2, 3].map(|i| &values[i]);
        let t = |token: usize, j: usize| -> f64 {
            (0..inputs).map(|i| x[token * inputs + i] * a[j * inputs + i]).sum()
        };
        let added = |token: usize, out: usize| -> f64 {
            (0..rank).map(|j| b[out * rank + j] * t(token, j)).sum::<f64>() * factor
        };
        y.iter().enumerate().map(|(at, y)| y + added(at / outputs, at % outputs)).collect()
    }

    #[test]
    fn gradients_equal_finite_differences_in_float64() {
        // Small enough for the products of three numbers to stay near 1.
        let part = |len: usize, seed| wave(len, seed).into_iter().map(|x| x / 2.0).collect::<Vec<_>>();
        for (dims, rank) in [([6, 7, 5], 3), ([1, 4, 9], 1), ([3, 2, 2], 2)] {
            let [tokens, inputs, outputs] = dims;
            check(
                &[
                    (&[tokens, outputs], part(tokens * outputs, 0.1)),
                    (&[tokens, inputs], part(tokens * inputs, 0.7)),
                    (&[rank, inputs], part(rank * inputs, 1.3)),
                    (&[outputs, rank], part(outputs * rank, 1.9)),
                ],
                |x| add_low_rank(&x[0], &x[1], &x[2], &x[3], 0.75),
                |x| exact(x, [inputs, outputs, rank], 0.75),
            );
        }
    }

    #[test]
    fn dimensions_in_front_are_tokens() {
        let sizes = [4, 3, 2];
        check(
            &[
                (&[2, 2, 3], wave(12, 0.1)),
                (&[2, 2, 4], wave(16, 0.7)),
                (&[2, 4], wave(8, 1.3).into_iter().map(|x| x / 4.0).collect()),
                (&[3, 2], wave(6, 1.9).into_iter().map(|x| x / 4.0).collect()),
            ],
            |x| add_low_rank(&x[0], &x[1], &x[2], &x[3], 0.5),
            |x| exact(x, sizes, 0.5),
        );
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let leaf = |dims: &[usize]| {
            let zeros = Tensor::zeros(dims.to_vec(), bitnet_core::DType::F32).unwrap();
            Variable::leaf(zeros).unwrap()
        };
        let (a, b) = (leaf(&[2, 4]), leaf(&[3, 2]));
        let run = |y: &[usize], x: &[usize], b: &Variable| add_low_rank(&leaf(y), &leaf(x), &a, b, 1.0);
        assert!(run(&[5, 3], &[5, 4], &b).is_ok());
        assert!(matches!(run(&[5, 3], &[5, 3], &b), Err(Error::Shape { .. })));
        assert!(matches!(run(&[5, 3], &[6, 4], &b), Err(Error::Shape { .. })));
        assert!(matches!(run(&[5, 4], &[5, 4], &b), Err(Error::Shape { .. })));
        assert!(matches!(run(&[5, 3], &[5, 4], &leaf(&[3, 1])), Err(Error::Core(_))));
    }
}
