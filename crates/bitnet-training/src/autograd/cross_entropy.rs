//! The loss of a language model, together with its head.
//!
//! Logits are `[tokens, vocabulary]`, far more than everything else together. So they are computed for a chunk of tokens,
//! turned into the gradients of the loss at once, and forgotten: what stays are the gradients of `h` and `w`, which only
//! wait for that of the loss.

use std::ops::Range;

use bitnet_core::gemm::{MatrixRef, sgemm};
use bitnet_core::{Buffer, DisjointSlice, PoolVec, Tensor};

use super::Variable;
use super::elementwise::wanted;
use super::floats::{Compute, elements, uncleared};
use super::variable::is_recorded;
use crate::{Error, Result};

/// A target that does not count: of padding, or of a text that is not to be learned.
pub const IGNORED: u32 = u32::MAX;

/// Logits of a chunk, about.
const CHUNK: usize = 1 << 21;
/// Tokens of a chunk, at least.
const MIN_TOKENS: usize = 64;
/// Tokens, or rows of the head, that a thread multiplies together: a product reorders the other matrix once.
const TILE: usize = 128;
const MAX_TILE: usize = 512;

/// `mean over the targets of log(sum_v exp(z_v)) - z_target`, `z = h W^T`, over the targets that are not [`IGNORED`].
///
/// `h` is `[tokens, width]`, `w` `[vocabulary, width]`, the embedding where the head is tied.
///
/// Errors: [`Error::Shape`], [`Error::Token`], [`Error::NoTargets`].
pub fn linear_cross_entropy(h: &Variable, w: &Variable, targets: &[u32]) -> Result<Variable> {
    let (h_value, w_value) = (h.value(), w.value());
    let vocab_size = w_value.dims().first().copied().unwrap_or(0);
    let width = w_value.len().checked_div(vocab_size).unwrap_or(0);
    let expected = [targets.len(), width];
    if w_value.rank() != 2 || h_value.dims() != expected {
        let (expected, got) = (expected.into(), h_value.shape().clone());
        return Err(Error::Shape { what: "the input of the head".to_owned(), expected, got });
    }
    let count = counted(targets, vocab_size)?;
    let head = Head {
        compute: Compute::new()?,
        h: elements(&h_value)?,
        w: elements(&w_value)?,
        width,
        vocab_size,
        targets,
        share: 1.0 / count as f32,
    };
    let wants = if is_recorded(&[h, w]) { [h.wants_gradient(), w.wants_gradient()] } else { [false; 2] };
    let (sum, dh, dw) = head.run(wants)?;
    let loss = Tensor::from_vec(vec![(sum / count as f64) as f32], [])?;
    let gradients = [(dh, h_value), (dw, w_value)]
        .map(|(gradient, value)| gradient.map(|gradient| Tensor::from_pool(gradient, value.shape().clone())));
    let [dh, dw] = gradients.map(Option::transpose);
    let (dh, dw) = (dh?, dw?);
    Ok(Variable::result(loss, [h, w], move |dy, [wants_h, wants_w]| {
        let dy = dy.to_vec::<f32>()?[0];
        let scaled = |gradient: &Option<Tensor>| -> Result<Tensor> {
            let gradient = gradient.as_ref().ok_or(Error::NoGradient)?;
            Ok(if dy == 1.0 { gradient.clone() } else { gradient.mul(dy)? })
        };
        Ok([wanted(wants_h, || scaled(&dh))?, wanted(wants_w, || scaled(&dw))?])
    }))
}

/// How many targets there are. Errors: [`Error::Token`], [`Error::NoTargets`].
pub(super) fn counted(targets: &[u32], vocab_size: usize) -> Result<usize> {
    let is_counted = |target: &&u32| **target != IGNORED;
    if let Some(&id) = targets.iter().filter(is_counted).find(|id| **id as usize >= vocab_size) {
        return Err(Error::Token { id, vocab_size });
    }
    match targets.iter().filter(is_counted).count() {
        0 => Err(Error::NoTargets),
        count => Ok(count),
    }
}

struct Head<'a> {
    compute: Compute,
    h: Buffer<f32>,
    w: Buffer<f32>,
    width: usize,
    vocab_size: usize,
    targets: &'a [u32],
    /// Of one target in the mean.
    share: f32,
}

/// Sum of the losses, gradients of `h` and `w`.
type Gradients = (f64, Option<PoolVec<f32>>, Option<PoolVec<f32>>);

impl Head<'_> {
    fn run(&self, [wants_h, wants_w]: [bool; 2]) -> Result<Gradients> {
        let tokens = self.targets.len();
        let chunk = (CHUNK / self.vocab_size).max(MIN_TOKENS).min(tokens);
        let mut logits = uncleared(chunk * self.vocab_size)?;
        let mut losses = vec![0.0; tokens];
        let mut dh = wants_h.then(|| uncleared(self.h.len())).transpose()?;
        let mut dw = wants_w.then(|| uncleared(self.w.len())).transpose()?;
        for start in (0..tokens).step_by(chunk) {
            let chunk = start..tokens.min(start + chunk);
            let logits = &mut logits[..chunk.len() * self.vocab_size];
            let dh = dh.as_deref_mut().map(|dh| &mut dh[self.columns(&chunk)]);
            self.losses(&chunk, logits, &mut losses[chunk.clone()], dh, wants_w);
            if let Some(dw) = &mut dw {
                self.add_to_weights(&chunk, logits, if start == 0 { 0.0 } else { 1.0 }, dw);
            }
        }
        Ok((losses.iter().sum(), dh, dw))
    }

    fn columns(&self, tokens: &Range<usize>) -> Range<usize> {
        tokens.start * self.width..tokens.end * self.width
    }

    /// Losses and gradients of `h` of a chunk. Where a gradient is wanted, that of the logits stays in their place.
    #[expect(unsafe_code, reason = "threads write disjoint tokens")]
    fn losses(
        &self,
        chunk: &Range<usize>,
        logits: &mut [f32],
        losses: &mut [f64],
        dh: Option<&mut [f32]>,
        wants_w: bool,
    ) {
        let (logits, losses, dh) =
            (DisjointSlice::new(logits), DisjointSlice::new(losses), dh.map(DisjointSlice::new));
        let w = MatrixRef::row_major(&self.w, self.width);
        let tile = chunk.len().div_ceil(self.compute.pool.threads()).clamp(TILE, MAX_TILE);
        self.compute.pool.split(chunk.len(), tile, |range| {
            for first in range.clone().step_by(tile) {
                let tile = first..range.end.min(first + tile);
                let tokens = chunk.start + tile.start..chunk.start + tile.end;
                // SAFETY: each token belongs to one thread.
                let (logits, losses) = unsafe {
                    let all = tile.start * self.vocab_size..tile.end * self.vocab_size;
                    (logits.part(all), losses.part(tile.clone()))
                };
                let h = MatrixRef::row_major(&self.h[self.columns(&tokens)], self.width);
                sgemm(h, w.transposed(), 0.0, logits);
                let rows = logits.chunks_exact_mut(self.vocab_size).zip(&self.targets[tokens]);
                for (loss, (logits, target)) in losses.iter_mut().zip(rows) {
                    *loss = self.loss(logits, *target, wants_w || dh.is_some());
                }
                if let Some(dh) = &dh {
                    // SAFETY: as above.
                    let dh = unsafe { dh.part(self.columns(&tile)) };
                    sgemm(MatrixRef::row_major(logits, self.vocab_size), w, 0.0, dh);
                }
            }
        });
    }

    /// The loss of a token; its logits become their gradient where that is wanted.
    fn loss(&self, logits: &mut [f32], target: u32, wants_gradient: bool) -> f64 {
        if target == IGNORED {
            logits.fill(0.0);
            return 0.0;
        }
        let kernels = &self.compute.kernels;
        let max = kernels.max(logits, f32::NEG_INFINITY);
        let of_target = logits[target as usize];
        kernels.softmax_weights(logits, max);
        let total = sum(logits);
        if wants_gradient {
            let factor = (f64::from(self.share) / total) as f32;
            for p in &mut *logits {
                *p *= factor;
            }
            logits[target as usize] -= self.share;
        }
        total.ln() - f64::from(of_target - max)
    }

    /// `dw = dz^T h + beta dw` of a chunk.
    #[expect(unsafe_code, reason = "threads write disjoint rows")]
    fn add_to_weights(&self, chunk: &Range<usize>, dz: &[f32], beta: f32, dw: &mut [f32]) {
        let h = MatrixRef::row_major(&self.h[self.columns(chunk)], self.width);
        let dw = DisjointSlice::new(dw);
        self.compute.pool.split(self.vocab_size, TILE, |rows| {
            let strides = [1, self.vocab_size as isize];
            let dz = MatrixRef::new(dz, rows.start, [rows.len(), chunk.len()], strides);
            // SAFETY: each row belongs to one thread.
            sgemm(dz, h, beta, unsafe { dw.part(self.columns(&rows)) });
        });
    }
}

/// In float64, in lanes that do not wait for each other.
fn sum(x: &[f32]) -> f64 {
    let (blocks, tail) = x.as_chunks::<16>();
    let mut lanes = [0.0_f64; 16];
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane += f64::from(*x);
        }
    }
    lanes.iter().sum::<f64>() + tail.iter().map(|x| f64::from(*x)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitnet_core::ThreadPool;
    use bitnet_core::tensor::with_threads;

    use super::super::check::{check, wave};
    use super::super::no_grad;
    use super::*;

    #[test]
    fn follows_its_formula_and_passes_over_what_is_ignored() {
        let (vocab_size, width) = (7, 3);
        let targets = [4, IGNORED, 0, 6, 4];
        check(
            &[(&[5, width], wave(15, 0.3)), (&[vocab_size, width], wave(21, 0.9))],
            |x| linear_cross_entropy(&x[0], &x[1], &targets),
            |x| {
                let counted = (0..5).filter(|token| targets[*token] != IGNORED);
                let loss = |token: usize| {
                    let z: Vec<f64> = (0..vocab_size)
                        .map(|v| (0..width).map(|i| x[0][token * width + i] * x[1][v * width + i]).sum())
                        .collect();
                    z.iter().map(|z| z.exp()).sum::<f64>().ln() - z[targets[token] as usize]
                };
                vec![counted.map(loss).sum::<f64>() / 4.0]
            },
        );
    }

    /// More tokens than a chunk has, on one thread and on three, with one handle for both uses of a tied embedding.
    #[test]
    fn chunks_and_threads_change_no_bit() {
        let (tokens, vocab_size, width) = (300, CHUNK / 100, 2);
        let tensor = |rows: usize, seed| {
            let values = wave(rows * width, seed).iter().map(|&x| x as f32).collect::<Vec<_>>();
            Tensor::from_vec(values, [rows, width]).unwrap()
        };
        let (h_value, w_value) = (tensor(tokens, 0.1), tensor(vocab_size, 0.7));
        let targets: Vec<u32> = (0..tokens as u32).map(|token| token * 7).collect();
        let run = |threads: usize| {
            with_threads(&Arc::new(ThreadPool::new(threads).unwrap()), || {
                let leaf = |value: &Tensor| Variable::leaf(value.clone()).unwrap();
                let (h, w) = (leaf(&h_value), leaf(&w_value));
                let loss = linear_cross_entropy(&h, &w, &targets).unwrap();
                let evaluated = no_grad(|| linear_cross_entropy(&h, &w, &targets)).unwrap();
                loss.scaled(0.5).unwrap().backward().unwrap();
                let vec = |tensor: Tensor| tensor.to_vec::<f32>().unwrap();
                let gradient = |x: &Variable| vec(x.gradient().unwrap());
                (vec(loss.value()), vec(evaluated.value()), gradient(&h), gradient(&w))
            })
        };
        let (loss, evaluated, dh, dw) = run(1);
        assert_eq!(loss, evaluated);
        assert!((loss[0] - (vocab_size as f32).ln()).abs() < 2.0, "{loss:?}");
        assert_eq!(run(3), (loss, evaluated, dh, dw));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let zeros = |dims: [usize; 2]| {
            Variable::constant(Tensor::zeros(dims, bitnet_core::DType::F32).unwrap()).unwrap()
        };
        let (h, w) = (zeros([2, 3]), zeros([5, 3]));
        assert!(matches!(linear_cross_entropy(&h, &w, &[0]), Err(Error::Shape { .. })));
        assert!(matches!(linear_cross_entropy(&h, &w, &[0, 5]), Err(Error::Token { id: 5, .. })));
        assert!(matches!(linear_cross_entropy(&h, &w, &[IGNORED; 2]), Err(Error::NoTargets)));
    }
}
