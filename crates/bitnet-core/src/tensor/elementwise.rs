//! Functions of one, two or three elements at a time.

use crate::{Result, Shape, Tensor};

use super::create::uncleared;
use super::layout::broadcast_shapes;
use super::threads::fill;
use super::walk::{Walk, strided};
use super::{Bool, Element};

/// Elements worth the start of a job.
const GRAIN: usize = 1 << 14;

/// `f(x)` for every element of a tensor of type `T`.
pub(super) fn map<T: Element, U: Element>(x: &Tensor, f: impl Fn(T) -> U + Sync) -> Result<Tensor> {
    let storage = x.elements::<T>();
    let storage: &[T] = &storage;
    let walk = Walk::new(x.dims(), [(&x.strides, x.offset)]);
    let mut out = uncleared::<U>(x.len())?;
    fill(&mut out, GRAIN, &|start, out| {
        walk.runs(start..start + out.len(), &mut |at, [x], len| {
            let out = &mut out[at - start..][..len];
            match walk.inner {
                [1] => out.iter_mut().zip(&storage[x..x + len]).for_each(|(out, x)| *out = f(*x)),
                [stride] => {
                    out.iter_mut().zip(strided(storage, x, stride, len)).for_each(|(out, x)| *out = f(x));
                }
            }
        });
    });
    Tensor::from_pool(out, x.shape.clone())
}

/// `f(a, b)` for two tensors of type `T`, broadcast.
pub(super) fn zip<T: Element, U: Element>(
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(T, T) -> U + Sync,
) -> Result<Tensor> {
    let (shape, walk) = side_by_side(a, b)?;
    let (a_storage, b_storage) = (a.elements::<T>(), b.elements::<T>());
    let (xs, ys): (&[T], &[T]) = (&a_storage, &b_storage);
    let mut out = uncleared::<U>(shape.elements()?)?;
    fill(&mut out, GRAIN, &|start, out| {
        walk.runs(start..start + out.len(), &mut |at, [x, y], len| {
            let out = out[at - start..][..len].iter_mut();
            match walk.inner {
                [1, 1] => {
                    let pairs = xs[x..x + len].iter().zip(&ys[y..y + len]);
                    out.zip(pairs).for_each(|(out, (x, y))| *out = f(*x, *y));
                }
                [1, 0] => {
                    let y = ys[y];
                    out.zip(&xs[x..x + len]).for_each(|(out, x)| *out = f(*x, y));
                }
                [0, 1] => {
                    let x = xs[x];
                    out.zip(&ys[y..y + len]).for_each(|(out, y)| *out = f(x, *y));
                }
                [x_stride, y_stride] => {
                    let pairs = strided(xs, x, x_stride, len).zip(strided(ys, y, y_stride, len));
                    out.zip(pairs).for_each(|(out, (x, y))| *out = f(x, y));
                }
            }
        });
    });
    Tensor::from_pool(out, shape)
}

/// The shape that two tensors broadcast to, and the way through both.
fn side_by_side(a: &Tensor, b: &Tensor) -> Result<(Shape, Walk<2>)> {
    let shape = broadcast_shapes(&a.shape, &b.shape)?;
    let (a, b) = (a.broadcast_to(shape.clone())?, b.broadcast_to(shape.clone())?);
    let walk = Walk::new(shape.dims(), [(&a.strides, a.offset), (&b.strides, b.offset)]);
    Ok((shape, walk))
}

/// `a` where `condition` is true and `b` elsewhere; the tensors have one shape, `a` and `b` type `T`.
pub(super) fn choose<T: Element>(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (conditions, a_storage, b_storage) =
        (condition.elements::<Bool>(), a.elements::<T>(), b.elements::<T>());
    let (conditions, xs, ys): (&[Bool], &[T], &[T]) = (&conditions, &a_storage, &b_storage);
    let operands = [condition, a, b].map(|tensor| (tensor.strides.as_slice(), tensor.offset));
    let walk = Walk::new(condition.dims(), operands);
    let [if_stride, x_stride, y_stride] = walk.inner;
    let mut out = uncleared::<T>(condition.len())?;
    fill(&mut out, GRAIN, &|start, out| {
        walk.runs(start..start + out.len(), &mut |at, [condition, x, y], len| {
            let conditions = strided(conditions, condition, if_stride, len);
            let pairs = strided(xs, x, x_stride, len).zip(strided(ys, y, y_stride, len));
            for ((out, condition), (x, y)) in out[at - start..].iter_mut().zip(conditions).zip(pairs) {
                *out = if condition.get() { x } else { y };
            }
        });
    });
    Tensor::from_pool(out, condition.shape.clone())
}
