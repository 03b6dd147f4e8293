//! Root-mean-square normalisation.

use bitnet_core::{Buffer, DisjointSlice, Tensor};

use super::Variable;
use super::elementwise::wanted;
use super::floats::{Compute, by_rows, elements, uncleared};
use super::kept::Kept;
use crate::Result;

/// Rows whose share of the gradient of the weight is added up before it meets the others.
const BLOCK: usize = 64;

/// `y_i = w_i x_i r`, `r = 1 / sqrt(mean(x^2) + eps)`, along the last dimension; `w` is `[width]` (arXiv 1910.07467).
///
/// With `g = w dy`: `dx = r g - x r^3 / width (g . x)`, `dw = sum over rows of dy x r`.
///
/// Errors: [`bitnet_core::Error::Shapes`], [`bitnet_core::Error::Rank`].
pub fn rms_norm(x: &Variable, w: &Variable, eps: f32) -> Result<Variable> {
    let y = x.value().rms_norm(Some(&w.value()), eps)?;
    let (x_value, w_value) = (Kept::new(&x.value())?, w.value());
    Ok(Variable::result(y, [x, w], move |dy, [wants_x, wants_w]| {
        let backward = RmsNormBackward {
            compute: Compute::new()?,
            x: x_value.elements()?,
            w: elements(&w_value)?,
            dy: elements(&dy)?,
            eps,
        };
        Ok([wanted(wants_x, || backward.of_input(&dy))?, wanted(wants_w, || backward.of_weight())?])
    }))
}

struct RmsNormBackward {
    compute: Compute,
    x: Buffer<f32>,
    w: Buffer<f32>,
    dy: Buffer<f32>,
    eps: f32,
}

impl RmsNormBackward {
    fn width(&self) -> usize {
        self.w.len()
    }

    fn row<'a>(&self, values: &'a [f32], row: usize) -> &'a [f32] {
        &values[row * self.width()..][..self.width()]
    }

    /// `r` of a row.
    fn factor(&self, x: &[f32]) -> f32 {
        1.0 / (self.compute.kernels.dot_f32(x, x) / x.len() as f32 + self.eps).sqrt()
    }

    fn of_input(&self, dy: &Tensor) -> Result<Tensor> {
        let width = self.width();
        by_rows(&self.compute, dy.shape(), width, |first, out| {
            for (row, dx) in (first..).zip(out.chunks_exact_mut(width)) {
                let (x, dy) = (self.row(&self.x, row), self.row(&self.dy, row));
                for ((dx, w), dy) in dx.iter_mut().zip(&*self.w).zip(dy) {
                    *dx = w * dy;
                }
                let factor = self.factor(x);
                let along = self.compute.kernels.dot_f32(dx, x) * factor * factor / width as f32;
                for (dx, x) in dx.iter_mut().zip(x) {
                    *dx = (*dx - x * along) * factor;
                }
            }
        })
    }

    /// Block by block, then the blocks in order: the same on any number of threads.
    #[expect(unsafe_code, reason = "threads write disjoint blocks")]
    fn of_weight(&self) -> Result<Tensor> {
        let width = self.width();
        let rows = self.dy.len() / width.max(1);
        let blocks = rows.div_ceil(BLOCK);
        let mut sums = uncleared(blocks * width)?;
        let shared = DisjointSlice::new(&mut sums);
        self.compute.pool.split(blocks, 1, |range| {
            for block in range {
                // SAFETY: each block belongs to one thread.
                let sum = unsafe { shared.part(block * width..(block + 1) * width) };
                sum.fill(0.0);
                for row in block * BLOCK..rows.min((block + 1) * BLOCK) {
                    let (x, dy) = (self.row(&self.x, row), self.row(&self.dy, row));
                    let factor = self.factor(x);
                    for ((sum, x), dy) in sum.iter_mut().zip(x).zip(dy) {
                        *sum += dy * (x * factor);
                    }
                }
            }
        });
        Ok(Tensor::from_pool(sums, [blocks, width])?.sum(Some(&[0]), false)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};
    use super::*;

    #[test]
    fn follows_its_formula() {
        for (rows, width) in [(3, 5), (130, 4)] {
            check(
                &[(&[rows, width], wave(rows * width, 0.3)), (&[width], wave(width, 1.2))],
                |x| rms_norm(&x[0], &x[1], 1e-5),
                |x| {
                    let factor = |row: &[f64]| {
                        1.0 / (row.iter().map(|x| x * x).sum::<f64>() / width as f64 + 1e-5).sqrt()
                    };
                    let rows = x[0].chunks(width);
                    rows.flat_map(|row| {
                        row.iter().zip(&x[1]).map(|(v, w)| v * w * factor(row)).collect::<Vec<_>>()
                    })
                    .collect()
                },
            );
        }
    }
}
