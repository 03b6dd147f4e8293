//! Sums, means, extremes and truth along dimensions.

use std::marker::PhantomData;

use crate::{Error, Result, Shape, Tensor};

use super::element::dispatch;
use super::fold::{Fold, fold};
use super::{Bool, Element, layout};

/// The dimensions of a reduction; none for all of them.
type Axes<'a> = Option<&'a [isize]>;

impl Tensor {
    /// The sum along `axes`: floats keep their type, integers and truth values give `i64`, which wraps.
    ///
    /// Floats are added in float64 and rounded once. A reduced dimension goes, or stays as 1 with `keep_dims`.
    ///
    /// Errors: [`Error::Axis`], [`Error::RepeatedAxis`], [`Error::OutOfMemory`].
    pub fn sum(&self, axes: Axes<'_>, keep_dims: bool) -> Result<Self> {
        dispatch!(self.dtype, T => if T::DTYPE.is_float() {
            self.reduce::<T, _>(axes, keep_dims, &FloatSum::<T> { divisor: 1.0, output: PhantomData })
        } else {
            self.reduce::<T, _>(axes, keep_dims, &IntegerSum)
        })
    }

    /// The mean along `axes`, NaN of no elements: floats keep their type, all others give `f32`. Summed in float64.
    ///
    /// Errors: as [`Self::sum`].
    pub fn mean(&self, axes: Axes<'_>, keep_dims: bool) -> Result<Self> {
        let reduced = layout::axes(axes, self.rank())?;
        let divisor =
            self.dims().iter().zip(reduced).map(|(&dim, reduced)| if reduced { dim as f64 } else { 1.0 });
        let divisor = divisor.product();
        dispatch!(self.dtype, T => {
            self.reduce::<T, _>(axes, keep_dims, &FloatSum::<<T as Element>::Real> { divisor, output: PhantomData })
        })
    }

    /// The greatest element along `axes`; NaN where there is one.
    ///
    /// Errors: as [`Self::sum`], and [`Error::Empty`] where there is no element.
    pub fn max(&self, axes: Axes<'_>, keep_dims: bool) -> Result<Self> {
        self.not_empty("max", axes)?;
        dispatch!(self.dtype, T => self.reduce::<T, _>(axes, keep_dims, &Extreme::<true>))
    }

    /// The least element along `axes`; NaN where there is one. Errors: as [`Self::max`].
    pub fn min(&self, axes: Axes<'_>, keep_dims: bool) -> Result<Self> {
        self.not_empty("min", axes)?;
        dispatch!(self.dtype, T => self.reduce::<T, _>(axes, keep_dims, &Extreme::<false>))
    }

    /// The index of the first greatest element along `axis`, or in row-major order: `i64`. NaN is above every number.
    ///
    /// Errors: as [`Self::max`].
    pub fn argmax(&self, axis: Option<isize>, keep_dims: bool) -> Result<Self> {
        let axes = axis.as_ref().map(std::slice::from_ref);
        self.not_empty("argmax", axes)?;
        dispatch!(self.dtype, T => self.reduce::<T, _>(axes, keep_dims, &Position::<true>))
    }

    /// The index of the first least element along `axis`, or in row-major order: `i64`. NaN is below every number.
    ///
    /// Errors: as [`Self::max`].
    pub fn argmin(&self, axis: Option<isize>, keep_dims: bool) -> Result<Self> {
        let axes = axis.as_ref().map(std::slice::from_ref);
        self.not_empty("argmin", axes)?;
        dispatch!(self.dtype, T => self.reduce::<T, _>(axes, keep_dims, &Position::<false>))
    }

    /// Whether an element along `axes` is other than 0: `bool`. Errors: as [`Self::sum`].
    pub fn any(&self, axes: Axes<'_>, keep_dims: bool) -> Result<Self> {
        dispatch!(self.dtype, T => self.reduce::<T, _>(axes, keep_dims, &Truth::<true>))
    }

    /// Whether all elements along `axes` are other than 0: `bool`. Errors: as [`Self::sum`].
    pub fn all(&self, axes: Axes<'_>, keep_dims: bool) -> Result<Self> {
        dispatch!(self.dtype, T => self.reduce::<T, _>(axes, keep_dims, &Truth::<false>))
    }

    fn reduce<T: Element, F: Fold<T>>(&self, axes: Axes<'_>, keep_dims: bool, f: &F) -> Result<Self> {
        let (reduced, shape) = self.reduced(axes, keep_dims)?;
        Self::from_pool(fold(self, &reduced, f)?, shape)
    }

    /// Which dimensions are reduced, and the shape that is left.
    fn reduced(&self, axes: Axes<'_>, keep_dims: bool) -> Result<(Vec<bool>, Shape)> {
        let reduced = layout::axes(axes, self.rank())?;
        let dims =
            self.dims().iter().zip(&reduced).filter_map(|(&dim, &reduced)| match (reduced, keep_dims) {
                (false, _) => Some(dim),
                (true, true) => Some(1),
                (true, false) => None,
            });
        let shape = dims.collect::<Vec<_>>().into();
        Ok((reduced, shape))
    }

    fn not_empty(&self, operation: &'static str, axes: Axes<'_>) -> Result<()> {
        let reduced = layout::axes(axes, self.rank())?;
        if self.dims().iter().zip(reduced).any(|(&dim, reduced)| reduced && dim == 0) {
            return Err(Error::Empty { operation, shape: self.shape.clone() });
        }
        Ok(())
    }
}

/// A sum in float64, divided.
struct FloatSum<U> {
    divisor: f64,
    output: PhantomData<U>,
}

impl<T: Element, U: Element> Fold<T> for FloatSum<U> {
    type Accumulator = f64;
    type Output = U;

    fn start(&self) -> f64 {
        0.0
    }
    fn step(&self, seen: f64, x: T, _: usize) -> f64 {
        seen + if T::DTYPE.is_float() { f64::from(x.to_f32()) } else { x.to_i64() as f64 }
    }
    fn join(&self, a: f64, b: f64) -> f64 {
        a + b
    }
    fn finish(&self, seen: f64) -> U {
        U::from_f32((seen / self.divisor) as f32)
    }
}

struct IntegerSum;

impl<T: Element> Fold<T> for IntegerSum {
    type Accumulator = i64;
    type Output = i64;

    fn start(&self) -> i64 {
        0
    }
    fn step(&self, seen: i64, x: T, _: usize) -> i64 {
        seen.wrapping_add(x.to_i64())
    }
    fn join(&self, a: i64, b: i64) -> i64 {
        a.wrapping_add(b)
    }
    fn finish(&self, seen: i64) -> i64 {
        seen
    }
}

/// Whether `x` is further than `best`; NaN is further than any number.
fn is_further<T: Element, const GREATEST: bool>(x: T, best: T) -> bool {
    (if GREATEST { x > best } else { x < best }) || (x.is_nan() && !best.is_nan())
}

fn nearest<T: Element, const GREATEST: bool>() -> T {
    if GREATEST { T::LOWEST } else { T::HIGHEST }
}

/// The greatest or least element.
struct Extreme<const GREATEST: bool>;

impl<T: Element, const GREATEST: bool> Fold<T> for Extreme<GREATEST> {
    type Accumulator = T;
    type Output = T;

    fn start(&self) -> T {
        nearest::<T, GREATEST>()
    }
    fn step(&self, best: T, x: T, _: usize) -> T {
        if is_further::<T, GREATEST>(x, best) { x } else { best }
    }
    fn join(&self, a: T, b: T) -> T {
        if is_further::<T, GREATEST>(b, a) { b } else { a }
    }
    fn finish(&self, best: T) -> T {
        best
    }
}

/// The first place of the greatest or least element.
struct Position<const GREATEST: bool>;

impl<T: Element, const GREATEST: bool> Fold<T> for Position<GREATEST> {
    type Accumulator = (T, usize);
    type Output = i64;

    fn start(&self) -> (T, usize) {
        (nearest::<T, GREATEST>(), usize::MAX)
    }
    fn step(&self, best: (T, usize), x: T, at: usize) -> (T, usize) {
        <Self as Fold<T>>::join(self, best, (x, at))
    }
    fn join(&self, a: (T, usize), b: (T, usize)) -> (T, usize) {
        let is_first = b.1 < a.1 && !is_further::<T, GREATEST>(a.0, b.0);
        if is_first || is_further::<T, GREATEST>(b.0, a.0) { b } else { a }
    }
    fn finish(&self, best: (T, usize)) -> i64 {
        best.1 as i64
    }
}

/// Whether any element is true, or all are.
struct Truth<const ANY: bool>;

impl<T: Element, const ANY: bool> Fold<T> for Truth<ANY> {
    type Accumulator = bool;
    type Output = Bool;

    fn start(&self) -> bool {
        !ANY
    }
    fn step(&self, seen: bool, x: T, _: usize) -> bool {
        <Self as Fold<T>>::join(self, seen, x.is_true())
    }
    fn join(&self, a: bool, b: bool) -> bool {
        if ANY { a | b } else { a & b }
    }
    fn finish(&self, seen: bool) -> Bool {
        seen.into()
    }
}
