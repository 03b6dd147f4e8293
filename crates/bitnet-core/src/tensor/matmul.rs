//! Matrix products, batched.

use crate::{DType, Error, Result, Shape, Tensor};

use super::arithmetic::Arithmetic;
use super::create::{uncleared, zeroed};
use super::element::dispatch;
use super::gemm::{Matrix, gemm};
use super::layout::broadcast_shapes;
use super::threads::fill;
use super::walk::strided;

impl Tensor {
    /// `out[.., i, j] = sum_k a[.., i, k] b[.., k, j]`: the dimensions before the last two broadcast. A vector on the
    /// left is a row, one on the right a column, and that dimension goes from the result.
    ///
    /// Types are promoted. `f16` and `bf16` are multiplied and added in float32 and rounded once; integers wrap in their
    /// type, as in NumPy: widen `i8` to `i32` first for sums that are exact.
    ///
    /// Errors: [`Error::Rank`] of a scalar, [`Error::Shapes`], [`Error::OutOfMemory`].
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        for side in [self, other] {
            if side.rank() == 0 {
                return Err(Error::Rank { operation: "matmul", expected: 1, shape: side.shape().clone() });
            }
        }
        let mismatch =
            || Error::Shapes { operation: "matmul", a: self.shape().clone(), b: other.shape().clone() };
        let (a, b) = self.with_common_dtype(other)?;
        let a = if a.rank() == 1 { a.unsqueeze(0)? } else { a };
        let b = if b.rank() == 1 { b.unsqueeze(1)? } else { b };
        let ([a_batch @ .., m, k], [b_batch @ .., b_k, n]) = (a.dims(), b.dims()) else {
            return Err(mismatch());
        };
        if k != b_k {
            return Err(mismatch());
        }
        let batch = broadcast_shapes(&a_batch.into(), &b_batch.into()).map_err(|_| mismatch())?;
        let mut dims = batch.dims().to_vec();
        // One right side for all: the batch is rows of one product.
        let product = if b_batch.is_empty() && !a_batch.is_empty() {
            let rows: usize = a_batch.iter().product::<usize>() * m;
            product(&a.reshape([rows, *k])?, &b, &Shape::default())?
        } else {
            product(&a, &b, &batch)?
        };
        if self.rank() > 1 {
            dims.push(*m);
        }
        if other.rank() > 1 {
            dims.push(*n);
        }
        product.reshape(dims)
    }
}

/// `[.., m, k]` by `[.., k, n]` in one type, with the dimensions before stretched to `batch`.
fn product(a: &Tensor, b: &Tensor, batch: &Shape) -> Result<Tensor> {
    let (a, b) = (stretched(a, batch)?, stretched(b, batch)?);
    match a.dtype() {
        DType::F32 => floats(&a, &b),
        half @ (DType::F16 | DType::BF16) => {
            floats(&a.to_dtype(DType::F32)?, &b.to_dtype(DType::F32)?)?.to_dtype(half)
        }
        integers => dispatch!(integers, T => others::<T>(&a, &b)),
    }
}

/// With its batch as one dimension; a copy where the strides of several have no common one.
fn stretched(x: &Tensor, batch: &Shape) -> Result<Tensor> {
    let [.., rows, cols] = *x.dims() else { unreachable!("a matrix has two dimensions") };
    let dims: Vec<usize> = batch.dims().iter().copied().chain([rows, cols]).collect();
    x.broadcast_to(dims)?.reshape([batch.elements()?, rows, cols])
}

fn floats(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (&[batch, m, k], &[_, _, n]) = (a.dims(), b.dims()) else { unreachable!("three dimensions") };
    let mut out = uncleared::<f32>(Shape::from([batch, m, n]).elements()?)?;
    let (a_storage, b_storage) = (a.elements::<f32>(), b.elements::<f32>());
    gemm(&Matrix::of(&a_storage, a), &Matrix::of(&b_storage, b), [batch, m, k, n], &mut out)?;
    Tensor::from_pool(out, [batch, m, n])
}

/// Row by row of `b`, which are walked in order.
fn others<T: Arithmetic>(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let b = b.contiguous()?;
    let (&[batch, m, k], &[_, _, n]) = (a.dims(), b.dims()) else { unreachable!("three dimensions") };
    let (a_storage, b_storage) = (a.elements::<T>(), b.elements::<T>());
    let (xs, ys): (&[T], &[T]) = (&a_storage, &b_storage);
    let mut out = zeroed::<T>(Shape::from([batch, m, n]).elements()?)?;
    let grain = n.max(1) * ((1 << 14) / (n * k).max(1)).max(1);
    fill(&mut out, grain, &|start, out| {
        for (i, out) in out.chunks_exact_mut(n.max(1)).enumerate() {
            let (batch, row) = ((start / n + i) / m, (start / n + i) % m);
            let first =
                a.storage().1 as isize + batch as isize * a.strides()[0] + row as isize * a.strides()[1];
            let rows = ys[batch * k * n..].chunks_exact(n);
            for (x, row) in strided(xs, first as usize, a.strides()[2], k).zip(rows) {
                out.iter_mut().zip(row).for_each(|(out, y)| *out = out.plus(x.times(*y)));
            }
        }
    });
    Tensor::from_pool(out, [batch, m, n])
}
