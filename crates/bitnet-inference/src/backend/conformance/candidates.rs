//! Candidates beside all logits.

use super::bench::{Violation, ensure};
use crate::Result;
use crate::backend::{Candidate, Cut};

/// Fails unless `candidates` are in the order of their ids, have their logits, and hold all that `cut` keeps of `logits`.
pub(super) fn check_candidates(
    candidates: &[Candidate],
    logits: &[f32],
    cut: &Cut<'_>,
    tolerance: f32,
) -> Result<(), Violation> {
    let Cut { top_k, below_best, .. } = cut;
    let cut_off = |what: &str| format!("{what} under top_k {top_k}, below_best {below_best}");
    let is_ordered = candidates.is_sorted_by(|a, b| a.id < b.id);
    ensure(is_ordered, || cut_off("candidates are not in the order of their ids"))?;
    for Candidate { id, logit } in candidates {
        let expected = logits.get(*id as usize).copied().unwrap_or(f32::NAN);
        ensure((logit - expected).abs() <= tolerance, || {
            cut_off(&format!("candidate {id} has the logit {logit}, not {expected}"))
        })?;
    }
    let kept = kept(logits, cut);
    let level = kept.last().map_or(f32::NEG_INFINITY, |id| cut.penalise(*id, logits[*id]));
    for id in kept {
        // Beside the level of others, rounding decides.
        let must_be_there = cut.penalise(id, logits[id]) >= level + tolerance;
        let is_there = candidates.binary_search_by_key(&(id as u32), |candidate| candidate.id).is_ok();
        ensure(!must_be_there || is_there, || cut_off(&format!("token {id} is missing")))?;
    }
    Ok(())
}

/// The tokens that `cut` keeps and that may be chosen, the largest penalised logit first.
fn kept(logits: &[f32], cut: &Cut<'_>) -> Vec<usize> {
    let penalised = |id: &usize| cut.penalise(*id, logits[*id]);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| penalised(b).total_cmp(&penalised(a)).then(a.cmp(b)));
    let lowest = order.first().map_or(0.0, penalised) - cut.below_best;
    let is_kept = |id: &usize| penalised(id) >= lowest && penalised(id) > f32::NEG_INFINITY;
    order.into_iter().take(cut.top_k).take_while(is_kept).collect()
}
