//! From the residual stream to logits: all of them, or those that a sampler can choose.
//!
//! For a choice, every row is scored from three bits, with a bound on the error (see `bitnet_quant::compact_rows`). The
//! exact logits of the rows with the best scores are a level that others must reach; those whose score can, within its
//! bound, are scored from a fourth bit as well, and computed exactly if they still can. What is left has the same logits
//! as a full head, and misses none that counts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bitnet_core::{DisjointSlice, FloatMatrix};
use bitnet_quant::{CompactRows, Margin, SplitActivations};

use super::CpuSequence;
use super::compute::{Compute, Input};
use super::prepared::Head;
use super::scratch::Scratch;
use crate::backend::{Candidate, Cut};
use crate::{Error, Result};

/// A cut that keeps a larger share of the vocabulary is made from all logits.
const LARGEST_SHARE: usize = 8;

/// Scores that are looked at together: hardly ever is one of them wanted.
const BLOCK: usize = 64;

/// Buffers of a choice, allocated once.
#[derive(Debug)]
pub(super) struct ChoiceScratch {
    split: SplitActivations,
    scores: Vec<f32>,
    best: BinaryHeap<Reverse<(OrderedScore, Reverse<u32>)>>,
    /// What may follow, in the order of the ids.
    candidates: Vec<Candidate>,
}

/// A float in the order of `total_cmp`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct OrderedScore(f32);

impl Eq for OrderedScore {}

impl PartialOrd for OrderedScore {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrderedScore {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl ChoiceScratch {
    pub(super) fn new(vocab_size: usize, hidden_size: usize) -> Self {
        Self {
            split: SplitActivations::with_capacity(hidden_size),
            scores: vec![0.0; vocab_size],
            best: BinaryHeap::with_capacity(vocab_size / LARGEST_SHARE + 1),
            candidates: Vec::with_capacity(vocab_size),
        }
    }
}

impl CpuSequence {
    /// Computes the logits of the last `count` tokens that were fed.
    pub(super) fn all_logits(&mut self, count: usize) -> Result<()> {
        self.normalise_last(count);
        let config = &self.model.config;
        let Scratch { normed, quantized, logits, .. } = &mut self.scratch;
        let normed = &normed[..count * config.hidden_size];
        let needed = count * config.vocab_size;
        if logits.len() < needed {
            logits.resize(needed, 0.0);
        }
        let logits = &mut logits[..needed];
        let bytes = match &self.model.head {
            Head::Linear(head) => {
                let input = Input { x: normed, norm: None, eps: config.rms_norm_eps };
                self.compute.linears(input, &mut [], quantized, [(head, logits)])?;
                head.weight_bytes()
            }
            Head::Float(head, _) => {
                self.compute.float_linear(head, normed, logits);
                head.weight.size_bytes()
            }
        };
        self.traffic.weight_bytes += bytes as u64;
        Ok(())
    }

    /// What may follow the last token that was fed, under `cut`.
    pub(super) fn choose(&mut self, cut: &Cut<'_>) -> Result<&[Candidate]> {
        if !self.choose_by_scores(cut) {
            self.all_logits(1)?;
            let logits = &self.scratch.logits[..self.model.config.vocab_size];
            let candidates = &mut self.scratch.choice.candidates;
            candidates.clear();
            candidates.extend(logits.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit }));
        }
        let candidates = &self.scratch.choice.candidates;
        if candidates.iter().fold(true, |finite, candidate| finite & candidate.logit.is_finite()) {
            return Ok(candidates);
        }
        Err(Error::NotFinite { what: "a logit".to_owned() })
    }

    /// Whether scores led to the candidates; not where the cut keeps much, or the head has no compact rows.
    fn choose_by_scores(&mut self, cut: &Cut<'_>) -> bool {
        let vocab_size = self.model.config.vocab_size;
        let is_cut = cut.below_best.is_finite() || cut.top_k < usize::MAX;
        let seeds = if cut.top_k == usize::MAX { 1 } else { cut.top_k };
        let model = std::sync::Arc::clone(&self.model);
        let Head::Float(head, Some(compact)) = &model.head else { return false };
        if !is_cut || seeds > vocab_size / LARGEST_SHARE {
            return false;
        }
        self.normalise_last(1);
        let x = &self.scratch.normed[..model.config.hidden_size];
        let choice = &mut self.scratch.choice;
        let Compute { pool, ternary, .. } = &self.compute;
        let Some(margin) = compact.scores(pool, ternary, x, &mut choice.split, &mut choice.scores) else {
            return false;
        };
        choice.take_best(cut, seeds);
        let exact = |id: u32| head.weight.row_dot(&self.compute.floats, id as usize, x);
        let level = choice.level(cut, exact);
        choice.take_candidates(cut, compact, margin, level);
        let refined = choice.candidates.len();
        choice.refine(&self.compute, cut, compact, margin, level);
        rescore(&self.compute, &head.weight, x, &mut choice.candidates);
        let rescored = choice.candidates.len() + seeds;
        let row_bytes = head.weight.size_bytes() / head.weight.rows();
        let looked_at = compact.size_bytes() + refined * compact.refined_bytes();
        self.traffic.weight_bytes += (looked_at + rescored * row_bytes) as u64;
        self.traffic.scored_rows += vocab_size as u64;
        self.traffic.rescored_rows += rescored as u64;
        true
    }

    /// Normalises the last `count` tokens into the scratch buffer.
    pub(super) fn normalise_last(&mut self, count: usize) {
        assert!(count <= self.outputs.len(), "logits of tokens that were fed for it");
        let end = self.outputs.end;
        let config = &self.model.config;
        let Scratch { hidden, normed, .. } = &mut self.scratch;
        let hidden = &hidden[(end - count) * config.hidden_size..end * config.hidden_size];
        self.compute.rms_norm(
            hidden,
            &self.model.norm,
            config.rms_norm_eps,
            &mut normed[..count * config.hidden_size],
        );
    }
}

impl ChoiceScratch {
    /// Keeps the `seeds` best scores.
    fn take_best(&mut self, cut: &Cut<'_>, seeds: usize) {
        let Self { scores, best, .. } = self;
        best.clear();
        let mut worst = f32::NEG_INFINITY;
        for (block, scores) in scores.chunks(BLOCK).enumerate() {
            let may_be_better = scores.iter().fold(false, |any, score| any | !is_at_most(*score, worst));
            if best.len() == seeds && !may_be_better && cut.only_lowers() {
                continue;
            }
            for (id, score) in (block * BLOCK..).zip(scores) {
                let entry = Reverse((OrderedScore(cut.penalise(id, *score)), Reverse(id as u32)));
                if best.len() < seeds {
                    best.push(entry);
                } else if let Some(mut last) = best.peek_mut().filter(|last| entry < **last) {
                    *last = entry;
                }
            }
            worst = best.peek().map_or(worst, |Reverse((score, _))| score.0);
        }
    }

    /// The level that a penalised logit must reach: that of the worst of the best, and not too far below the best.
    fn level(&self, cut: &Cut<'_>, exact: impl Fn(u32) -> f32) -> f32 {
        let (mut worst, mut best) = (f32::INFINITY, f32::NEG_INFINITY);
        for Reverse((_, Reverse(id))) in &self.best {
            let logit = cut.penalise(*id as usize, exact(*id));
            // No number makes no level: everything then reaches it, and is found not to be finite.
            if logit.is_nan() {
                return f32::NEG_INFINITY;
            }
            (worst, best) = (worst.min(logit), best.max(logit));
        }
        let lowest = best - cut.below_best;
        if cut.top_k == usize::MAX { lowest } else { worst.max(lowest) }
    }

    /// Of the candidates, keeps those that can reach `level` by their refined scores.
    #[expect(unsafe_code, reason = "threads write disjoint candidates")]
    fn refine(
        &mut self,
        compute: &Compute,
        cut: &Cut<'_>,
        compact: &CompactRows,
        margin: Margin,
        level: f32,
    ) {
        let Self { scores, split, candidates, .. } = self;
        let len = candidates.len();
        let shared = DisjointSlice::new(candidates);
        compute.pool.split(len, 64, |range| {
            // SAFETY: ranges of a split are disjoint.
            for Candidate { id, logit } in unsafe { shared.part(range) } {
                let id = *id as usize;
                let (score, distance) = compact.refined(&compute.ternary, split, margin, id, scores[id]);
                *logit = cut.penalise(id, score + distance);
            }
        });
        candidates.retain(|candidate| !is_below(candidate.logit, level));
    }

    /// Keeps every token whose penalised logit can reach `level`.
    fn take_candidates(&mut self, cut: &Cut<'_>, compact: &CompactRows, margin: Margin, level: f32) {
        let Self { scores, candidates, .. } = self;
        candidates.clear();
        for (block, scores) in scores.chunks(BLOCK).enumerate() {
            let first = block * BLOCK;
            let distances = || compact.distances(margin, first..first + scores.len());
            let may_reach = |any, (score, distance): (&f32, f32)| any | !is_below(score + distance, level);
            if cut.only_lowers() && !scores.iter().zip(distances()).fold(false, may_reach) {
                continue;
            }
            for (id, (score, distance)) in (first..).zip(scores.iter().zip(distances())) {
                if !is_below(cut.penalise(id, score + distance), level) {
                    candidates.push(Candidate { id: id as u32, logit: f32::NAN });
                }
            }
        }
    }
}

/// False for NaN, which is to be noticed.
fn is_at_most(a: f32, b: f32) -> bool {
    a <= b
}

/// False for NaN, which is to be noticed.
fn is_below(a: f32, b: f32) -> bool {
    a < b
}

/// Computes the exact logits of the candidates.
#[expect(unsafe_code, reason = "threads write disjoint candidates")]
fn rescore(compute: &Compute, head: &FloatMatrix, x: &[f32], candidates: &mut [Candidate]) {
    let len = candidates.len();
    let shared = DisjointSlice::new(candidates);
    compute.pool.split(len, 8, |range| {
        // SAFETY: ranges of a split are disjoint.
        for candidate in unsafe { shared.part(range) } {
            candidate.logit = head.row_dot(&compute.floats, candidate.id as usize, x);
        }
    });
}
