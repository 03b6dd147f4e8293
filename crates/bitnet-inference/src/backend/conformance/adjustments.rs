//! Cuts that matter: adjustments which change what is kept of given logits.

use crate::backend::{Adjustment, Cut, TokenMask};

/// The largest logits, which every adjustment is about: a backend that leaves it out answers with their tokens.
const LARGEST: usize = 20;

/// The smallest logits, which one of the adjustments makes the largest.
const SMALLEST: usize = 3;

/// A penalty that no logit withstands.
const PENALTY: f32 = 1e4;

/// What adjustments refer to.
pub(super) struct Adjustments {
    /// All tokens but those of the largest logits.
    others: TokenMask,
    /// The token of the smallest logit alone.
    last: TokenMask,
    /// Those of the largest were there.
    counts: Vec<u32>,
    /// Takes the largest out.
    lowers: Vec<f32>,
    /// Puts the smallest first.
    raises: Vec<f32>,
}

impl Adjustments {
    /// Adjustments of these logits.
    pub(super) fn new(logits: &[f32]) -> Self {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let range = order.first().zip(order.last()).map_or(0.0, |(a, b)| logits[*a] - logits[*b]);
        let largest = &order[..LARGEST.min(order.len() / 2)];
        let smallest = &order[order.len().saturating_sub(SMALLEST)..];
        let mask = |holds: &dyn Fn(usize) -> bool| {
            let word = |first: usize| (0..32).map(|bit| u32::from(holds(first + bit)) << bit).sum();
            let mut mask = TokenMask::default();
            mask.set(&(0..logits.len()).step_by(32).map(word).collect::<Vec<u32>>(), logits.len());
            mask
        };
        let offsets = |ids: &[usize], offset: f32| {
            let mut offsets = vec![0.0; logits.len()];
            for id in ids {
                offsets[*id] = offset;
            }
            offsets
        };
        let mut counts = vec![0; logits.len()];
        for id in largest {
            counts[*id] = 2;
        }
        Self {
            others: mask(&|id| !largest.contains(&id)),
            last: mask(&|id| smallest.last() == Some(&id)),
            counts,
            lowers: offsets(largest, f32::NEG_INFINITY),
            raises: offsets(smallest, range + 1.0),
        }
    }

    /// Each adjustment alone and all together, each for few tokens, for more, and for those close to the best.
    pub(super) fn cuts(&self) -> Vec<Cut<'_>> {
        let none = Adjustment::NONE;
        let all = Adjustment {
            repetition_penalty: 1.5,
            counts: &self.counts,
            offsets: &self.raises,
            allowed: Some(&self.others),
            may_raise: true,
        };
        let adjustments = [
            Adjustment { allowed: Some(&self.others), ..none },
            Adjustment { allowed: Some(&self.last), ..none },
            Adjustment { offsets: &self.lowers, ..none },
            Adjustment { offsets: &self.raises, may_raise: true, ..none },
            Adjustment { counts: &self.counts, repetition_penalty: PENALTY, ..none },
            all,
        ];
        let kept = [(1, f32::INFINITY), (LARGEST, f32::INFINITY), (usize::MAX, 2.0)];
        let cut = |adjustment| kept.map(|(top_k, below_best)| Cut { top_k, below_best, adjustment });
        adjustments.into_iter().flat_map(cut).collect()
    }
}
