//! The products of a head and their losses, chunk by chunk.

use std::ops::Range;

use bitnet_core::gemm::{MatrixRef, sgemm};
use bitnet_core::{Buffer, DisjointSlice, PoolVec};

use super::IGNORED;
use crate::Result;
use crate::autograd::divergence::{divergence, sum};
use crate::autograd::floats::{Compute, uncleared};

/// Logits of a chunk, about.
pub(super) const CHUNK: usize = 1 << 21;
/// Tokens of a chunk, at least.
const MIN_TOKENS: usize = 64;
/// Tokens, or rows of the head, that a thread multiplies together: a product reorders the other matrix once.
const TILE: usize = 128;
const MAX_TILE: usize = 512;

pub(super) struct Head<'a> {
    pub(super) compute: Compute,
    pub(super) factors: Factors,
    pub(super) vocab_size: usize,
    pub(super) targets: &'a [u32],
    /// Of one target in the mean.
    pub(super) share: f32,
    pub(super) teacher: Option<Teacher>,
}

/// What logits are the product of.
pub(super) struct Factors {
    pub(super) h: Buffer<f32>,
    pub(super) w: Buffer<f32>,
    pub(super) width: usize,
}

/// What [`super::SoftTargets`] says.
pub(super) struct Teacher {
    pub(super) factors: Factors,
    pub(super) temperature: f32,
    pub(super) weight: f32,
}

/// Sums of cross-entropies and divergences, gradients of `h` and `w`.
type Gradients = ([f64; 2], Option<PoolVec<f32>>, Option<PoolVec<f32>>);

/// What threads write of a chunk.
struct Outputs<'a> {
    logits: DisjointSlice<'a, f32>,
    of_teacher: Option<DisjointSlice<'a, f32>>,
    /// Cross-entropy and divergence of each token.
    losses: DisjointSlice<'a, [f64; 2]>,
    dh: Option<DisjointSlice<'a, f32>>,
    wants_gradient: bool,
}

/// Rows of a token, for the teacher.
#[derive(Default)]
struct Rows {
    scores: Vec<f32>,
    difference: Vec<f32>,
}

impl Factors {
    fn columns(&self, tokens: &Range<usize>) -> Range<usize> {
        tokens.start * self.width..tokens.end * self.width
    }

    fn h(&self, tokens: &Range<usize>) -> MatrixRef<'_> {
        MatrixRef::row_major(&self.h[self.columns(tokens)], self.width)
    }

    fn w(&self) -> MatrixRef<'_> {
        MatrixRef::row_major(&self.w, self.width)
    }

    fn logits(&self, tokens: &Range<usize>, out: &mut [f32]) {
        sgemm(self.h(tokens), self.w().transposed(), 0.0, out);
    }
}

impl Head<'_> {
    pub(super) fn run(&self, [wants_h, wants_w]: [bool; 2]) -> Result<Gradients> {
        let tokens = self.targets.len();
        let chunk = (CHUNK / self.vocab_size).max(MIN_TOKENS).min(tokens);
        let mut logits = uncleared(chunk * self.vocab_size)?;
        let mut of_teacher = self.teacher.as_ref().map(|_| uncleared(logits.len())).transpose()?;
        let mut losses = vec![[0.0; 2]; tokens];
        let mut dh = wants_h.then(|| uncleared(self.factors.h.len())).transpose()?;
        let mut dw = wants_w.then(|| uncleared(self.factors.w.len())).transpose()?;
        for start in (0..tokens).step_by(chunk) {
            let chunk = start..tokens.min(start + chunk);
            let logits = &mut logits[..chunk.len() * self.vocab_size];
            let columns = self.factors.columns(&chunk);
            let outputs = Outputs {
                logits: DisjointSlice::new(logits),
                of_teacher: of_teacher.as_deref_mut().map(DisjointSlice::new),
                losses: DisjointSlice::new(&mut losses[chunk.clone()]),
                dh: dh.as_deref_mut().map(|dh| DisjointSlice::new(&mut dh[columns])),
                wants_gradient: wants_h || wants_w,
            };
            let tile = chunk.len().div_ceil(self.compute.pool.threads()).clamp(TILE, MAX_TILE);
            self.compute.pool.split(chunk.len(), tile, |range| {
                let mut rows = Rows::default();
                for first in range.clone().step_by(tile) {
                    self.losses(chunk.start, &(first..range.end.min(first + tile)), &outputs, &mut rows);
                }
            });
            if let Some(dw) = &mut dw {
                self.add_to_weights(&chunk, logits, if start == 0 { 0.0 } else { 1.0 }, dw);
            }
        }
        let sum_of = |part: usize| losses.iter().map(|losses| losses[part]).sum();
        Ok(([sum_of(0), sum_of(1)], dh, dw))
    }

    /// Losses and gradients of `h` of a tile in a chunk that begins at token `start`. Where a gradient is wanted, that of
    /// the logits stays in their place.
    #[expect(unsafe_code, reason = "threads write disjoint tokens")]
    fn losses(&self, start: usize, tile: &Range<usize>, outputs: &Outputs<'_>, rows: &mut Rows) {
        let tokens = start + tile.start..start + tile.end;
        let all = tile.start * self.vocab_size..tile.end * self.vocab_size;
        // SAFETY: each token belongs to one thread.
        let (logits, losses) =
            unsafe { (outputs.logits.part(all.clone()), outputs.losses.part(tile.clone())) };
        self.factors.logits(&tokens, logits);
        let mut teacher = self.teacher.as_ref().zip(outputs.of_teacher.as_ref()).map(|(teacher, shared)| {
            // SAFETY: as above.
            let of_teacher = unsafe { shared.part(all) };
            teacher.factors.logits(&tokens, of_teacher);
            (teacher, of_teacher.chunks_exact_mut(self.vocab_size))
        });
        let targets = self.targets[tokens].iter().zip(logits.chunks_exact_mut(self.vocab_size));
        for (losses, (target, logits)) in losses.iter_mut().zip(targets) {
            let soft = teacher.as_mut().and_then(|(teacher, rows)| Some((&**teacher, rows.next()?)));
            *losses = self.loss(logits, *target, soft, outputs.wants_gradient, rows);
        }
        if let Some(dh) = &outputs.dh {
            // SAFETY: as above.
            let dh = unsafe { dh.part(self.factors.columns(tile)) };
            sgemm(MatrixRef::row_major(logits, self.vocab_size), self.factors.w(), 0.0, dh);
        }
    }

    /// The losses of a token; its logits become their gradient where that is wanted, those of the teacher are of no account
    /// then.
    fn loss(
        &self,
        logits: &mut [f32],
        target: u32,
        soft: Option<(&Teacher, &mut [f32])>,
        wants_gradient: bool,
        rows: &mut Rows,
    ) -> [f64; 2] {
        if target == IGNORED {
            logits.fill(0.0);
            return [0.0; 2];
        }
        let divergence = soft.map(|(teacher, of_teacher)| self.divergence(logits, teacher, of_teacher, rows));
        let cross_entropy = self.cross_entropy(logits, target, wants_gradient);
        if wants_gradient && divergence.is_some() {
            for (logit, of_divergence) in logits.iter_mut().zip(&rows.scores) {
                *logit += of_divergence;
            }
        }
        [cross_entropy, divergence.unwrap_or(0.0)]
    }

    /// The divergence of a token; its gradient is left in the rows.
    fn divergence(
        &self,
        logits: &[f32],
        teacher: &Teacher,
        of_teacher: &mut [f32],
        Rows { scores, difference }: &mut Rows,
    ) -> f64 {
        let cooling = 1.0 / teacher.temperature;
        scores.clear();
        scores.extend(logits.iter().map(|logit| logit * cooling));
        difference.resize(logits.len(), 0.0);
        for logit in &mut *of_teacher {
            *logit *= cooling;
        }
        let factor = self.share * teacher.weight * cooling;
        divergence(&self.compute.kernels, scores, of_teacher, difference, factor)
    }

    fn cross_entropy(&self, logits: &mut [f32], target: u32, wants_gradient: bool) -> f64 {
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
        let h = self.factors.h(chunk);
        let dw = DisjointSlice::new(dw);
        self.compute.pool.split(self.vocab_size, TILE, |rows| {
            let strides = [1, self.vocab_size as isize];
            let dz = MatrixRef::new(dz, rows.start, [rows.len(), chunk.len()], strides);
            // SAFETY: each row belongs to one thread.
            sgemm(dz, h, beta, unsafe { dw.part(self.factors.columns(&rows)) });
        });
    }
}
