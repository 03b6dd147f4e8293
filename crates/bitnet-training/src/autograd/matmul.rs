//! Matrix products, batched.

use bitnet_core::Tensor;

use super::Variable;
use super::elementwise::{sum_to, wanted};
use crate::Result;

impl Variable {
    /// `y[.., i, j] = sum_k a[.., i, k] b[.., k, j]`: the dimensions before the last two broadcast; a vector is a row on the
    /// left, a column on the right.
    ///
    /// `da = dy b^T`, `db = a^T dy`, summed along what was stretched.
    ///
    /// Errors: [`bitnet_core::Error::Rank`], [`bitnet_core::Error::Shapes`].
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        let (a, b) = (self.value(), other.value());
        if a.rank() == 1 || b.rank() == 1 {
            let row = if a.rank() == 1 { self.unsqueeze(0)? } else { self.clone() };
            let column = if b.rank() == 1 { other.unsqueeze(1)? } else { other.clone() };
            let y = row.matmul(&column)?;
            let y = if a.rank() == 1 { y.squeeze(Some(-2))? } else { y };
            return if b.rank() == 1 { y.squeeze(Some(-1)) } else { Ok(y) };
        }
        Ok(Self::result(a.matmul(&b)?, [self, other], move |dy, [wants_a, wants_b]| {
            let transposed = |x: &Tensor| x.swap_axes(-1, -2);
            Ok([
                wanted(wants_a, || sum_to(&dy.matmul(&transposed(&b)?)?, a.dims()))?,
                wanted(wants_b, || {
                    // One right side for all: the batch is rows of one product.
                    let (a_cols, dy_cols) = (a.dims()[a.rank() - 1], dy.dims()[dy.rank() - 1]);
                    if b.rank() == 2 {
                        let rows = |x: &Tensor, cols: usize| x.reshape([x.len() / cols.max(1), cols]);
                        return Ok(rows(&a, a_cols)?.transpose()?.matmul(&rows(&dy, dy_cols)?)?);
                    }
                    sum_to(&transposed(&a)?.matmul(&dy)?, b.dims())
                })?,
            ])
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};

    /// `[batch, m, k]` by `[batch, k, n]` where a batch of 1 is stretched.
    fn product(a: &[f64], b: &[f64], batches: [usize; 2], [m, k, n]: [usize; 3]) -> Vec<f64> {
        let mut out = Vec::new();
        for batch in 0..batches[0].max(batches[1]) {
            let (a, b) = (&a[batch % batches[0] * m * k..], &b[batch % batches[1] * k * n..]);
            for at in 0..m * n {
                out.push((0..k).map(|i| a[at / n * k + i] * b[i * n + at % n]).sum());
            }
        }
        out
    }

    #[test]
    fn products_with_and_without_batches() {
        let sizes = [3, 4, 5];
        let forward = |x: &[super::Variable]| x[0].matmul(&x[1]);
        let (a, b) = (wave(12, 0.2), wave(20, 0.9));
        check(&[(&[3, 4], a.clone()), (&[4, 5], b.clone())], forward, |x| {
            product(&x[0], &x[1], [1, 1], sizes)
        });
        let many = wave(24, 0.5);
        check(&[(&[2, 3, 4], many.clone()), (&[4, 5], b)], forward, |x| product(&x[0], &x[1], [2, 1], sizes));
        let others = wave(40, 0.7);
        check(&[(&[2, 3, 4], many), (&[2, 4, 5], others.clone())], forward, |x| {
            product(&x[0], &x[1], [2, 2], sizes)
        });
        check(&[(&[1, 3, 4], a), (&[2, 4, 5], others)], forward, |x| product(&x[0], &x[1], [1, 2], sizes));
    }

    #[test]
    fn a_vector_is_a_row_or_a_column() {
        let forward = |x: &[super::Variable]| x[0].matmul(&x[1]);
        let (a, b) = (wave(4, 0.3), wave(40, 0.9));
        check(&[(&[4], a.clone()), (&[2, 4, 5], b)], forward, |x| product(&x[0], &x[1], [1, 2], [1, 4, 5]));
        check(&[(&[4], a.clone()), (&[4], wave(4, 1.3))], forward, |x| {
            product(&x[0], &x[1], [1, 1], [1, 4, 1])
        });
        check(&[(&[2, 3, 4], wave(24, 0.5)), (&[4], a)], forward, |x| {
            product(&x[0], &x[1], [2, 1], [3, 4, 1])
        });
    }

    #[test]
    fn a_transposed_side_is_multiplied_as_it_is() {
        check(
            &[(&[4, 3], wave(12, 0.1)), (&[4, 5], wave(20, 0.8))],
            |x| x[0].permute(&[1, 0])?.matmul(&x[1]),
            |x| {
                let a: Vec<f64> = (0..12).map(|i| x[0][i % 4 * 3 + i / 4]).collect();
                product(&a, &x[1], [1, 1], [3, 4, 5])
            },
        );
    }
}
