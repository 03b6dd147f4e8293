//! The one way of reduction: elements are folded into an accumulator per output.
//!
//! What is folded in which order follows from shape and strides alone, never from the number of threads. Where the reduced
//! dimensions lie innermost, an output is folded block by block, each in lanes. Where the kept ones do, rows are folded
//! into a row of accumulators, so that memory is read in its order.

use std::ops::Range;

use crate::{Error, PoolVec, Result, Tensor};

use super::Element;
use super::create::uncleared;
use super::threads::fill;
use super::walk::{Walk, strided};

/// Elements that one accumulator takes before it is joined with the next.
const BLOCK: usize = 1 << 16;
/// Accumulators that take turns in a run.
const LANES: usize = 16;
/// Columns whose accumulators stay in the first cache.
const COLUMNS: usize = 512;
/// Elements worth the start of a job.
const GRAIN: usize = 1 << 14;

/// A reduction of elements of type `T`.
pub(super) trait Fold<T>: Sync {
    /// What has been seen of the elements.
    type Accumulator: Copy + Send;
    /// The result.
    type Output: Element;

    /// Nothing seen.
    fn start(&self) -> Self::Accumulator;
    /// One more, number `at` of those that are reduced together.
    fn step(&self, seen: Self::Accumulator, x: T, at: usize) -> Self::Accumulator;
    /// Both, in any order.
    fn join(&self, a: Self::Accumulator, b: Self::Accumulator) -> Self::Accumulator;
    /// The result.
    fn finish(&self, seen: Self::Accumulator) -> Self::Output;
}

/// Folds the dimensions of `x` that `reduced` marks; the outputs are those of the others, row-major.
pub(super) fn fold<T: Element, F: Fold<T>>(
    x: &Tensor,
    reduced: &[bool],
    fold: &F,
) -> Result<PoolVec<F::Output>> {
    let storage = x.elements::<T>();
    let ((outputs, kept), (count, reduced)) = (part(x, reduced, false, x.offset), part(x, reduced, true, 0));
    let folding = Folding { storage: &storage, kept, reduced, count, fold };
    if folding.kept.inner == [1] && folding.kept.inner_len >= LANES && folding.reduced.inner != [1] {
        return folding.by_rows(outputs);
    }
    folding.by_blocks(outputs)
}

/// Number of elements of the dimensions that are reduced, or of the others, and the way through them.
fn part(x: &Tensor, reduced: &[bool], wanted: bool, offset: usize) -> (usize, Walk<1>) {
    let axes = (0..x.rank()).filter(|&axis| reduced[axis] == wanted);
    let (dims, strides): (Vec<usize>, Vec<isize>) =
        axes.map(|axis| (x.dims()[axis], x.strides[axis])).unzip();
    (dims.iter().product(), Walk::new(&dims, [(&strides, offset)]))
}

struct Folding<'a, T, F> {
    storage: &'a [T],
    kept: Walk<1>,
    /// Offsets from that of the output.
    reduced: Walk<1>,
    /// Elements per output.
    count: usize,
    fold: &'a F,
}

impl<T: Element, F: Fold<T>> Folding<'_, T, F> {
    /// Each output on its own, in blocks.
    fn by_blocks(&self, outputs: usize) -> Result<PoolVec<F::Output>> {
        let blocks = self.count.div_ceil(BLOCK).max(1);
        let mut seen = self.accumulators(outputs * blocks)?;
        let grain = (GRAIN / self.count.clamp(1, GRAIN)).max(1);
        fill(&mut seen, grain, &|start, seen| {
            let end = start + seen.len();
            self.kept.runs(start / blocks..end.div_ceil(blocks), &mut |output, [first], len| {
                for i in 0..len {
                    let offset = first.wrapping_add_signed(i as isize * self.kept.inner[0]);
                    let units = (output + i) * blocks..(output + i + 1) * blocks;
                    for unit in units.start.max(start)..units.end.min(end) {
                        let block = (unit - units.start) * BLOCK;
                        seen[unit - start] = self.block(offset, block..self.count.min(block + BLOCK));
                    }
                }
            });
        });
        let join = |seen: &[F::Accumulator]| seen[1..].iter().fold(seen[0], |a, b| self.fold.join(a, *b));
        self.finished(outputs, seen.chunks_exact(blocks).map(join))
    }

    fn block(&self, offset: usize, elements: Range<usize>) -> F::Accumulator {
        let mut seen = self.fold.start();
        self.reduced.runs(elements, &mut |at, [from_offset], len| {
            // Offsets below that of the output have wrapped.
            let first = offset.wrapping_add(from_offset);
            let run = match self.reduced.inner {
                [1] => self.run(&self.storage[first..first + len], at),
                [stride] => self.steps(self.fold.start(), strided(self.storage, first, stride, len), at),
            };
            seen = self.fold.join(seen, run);
        });
        seen
    }

    /// In lanes, which are joined at the end.
    fn run(&self, x: &[T], at: usize) -> F::Accumulator {
        let (chunks, tail) = x.as_chunks::<LANES>();
        let mut lanes = [self.fold.start(); LANES];
        for (chunk, x) in chunks.iter().enumerate() {
            for lane in 0..LANES {
                lanes[lane] = self.fold.step(lanes[lane], x[lane], at + chunk * LANES + lane);
            }
        }
        let rest = self.steps(self.fold.start(), tail.iter().copied(), at + x.len() - tail.len());
        if chunks.is_empty() { rest } else { lanes.into_iter().fold(rest, |a, b| self.fold.join(a, b)) }
    }

    fn steps(&self, seen: F::Accumulator, x: impl Iterator<Item = T>, at: usize) -> F::Accumulator {
        x.enumerate().fold(seen, |seen, (i, x)| self.fold.step(seen, x, at + i))
    }

    /// Rows of outputs that lie side by side, row of elements by row.
    fn by_rows(&self, outputs: usize) -> Result<PoolVec<F::Output>> {
        let mut seen = self.accumulators(outputs)?;
        let grain = (GRAIN / self.count.clamp(1, GRAIN)).max(LANES);
        fill(&mut seen, grain, &|start, seen| {
            self.kept.runs(start..start + seen.len(), &mut |output, [first], len| {
                for (i, columns) in seen[output - start..][..len].chunks_mut(COLUMNS).enumerate() {
                    self.columns(first + i * COLUMNS, columns);
                }
            });
        });
        self.finished(outputs, seen.into_iter())
    }

    fn finished(
        &self,
        outputs: usize,
        seen: impl Iterator<Item = F::Accumulator>,
    ) -> Result<PoolVec<F::Output>> {
        let mut out = uncleared(outputs)?;
        out.iter_mut().zip(seen).for_each(|(out, seen)| *out = self.fold.finish(seen));
        Ok(out)
    }

    fn columns(&self, offset: usize, seen: &mut [F::Accumulator]) {
        let [stride] = self.reduced.inner;
        self.reduced.runs(0..self.count, &mut |at, [from_offset], len| {
            for i in 0..len {
                let first = offset.wrapping_add(from_offset).wrapping_add_signed(i as isize * stride);
                for (seen, x) in seen.iter_mut().zip(&self.storage[first..]) {
                    *seen = self.fold.step(*seen, *x, at + i);
                }
            }
        });
    }

    fn accumulators(&self, len: usize) -> Result<Vec<F::Accumulator>> {
        let mut seen = Vec::new();
        let bytes = len.saturating_mul(size_of::<F::Accumulator>());
        seen.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes })?;
        seen.resize(len, self.fold.start());
        Ok(seen)
    }
}
