//! What a cut keeps of logits, for backends that have all of them.

use super::{Candidate, Cut};
use crate::{Error, Result};

impl Cut<'_> {
    /// Fills `kept` with the tokens that the cut keeps of `logits`, in the order of their ids.
    ///
    /// Errors: [`Error::NotFinite`].
    pub fn keep(&self, logits: &[f32], kept: &mut Vec<Candidate>) -> Result<()> {
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(Error::NotFinite { what: "a logit".to_owned() });
        }
        kept.clear();
        let all = (0..).zip(logits).map(|(id, &logit)| Candidate { id, logit });
        let penalised = |candidate: &Candidate| self.penalise(candidate.id as usize, candidate.logit);
        kept.extend(all);
        if self.top_k < kept.len() {
            let by_logit = |a: &Candidate, b: &Candidate| penalised(b).total_cmp(&penalised(a));
            kept.select_nth_unstable_by(self.top_k.max(1) - 1, |a, b| by_logit(a, b).then(a.id.cmp(&b.id)));
            kept.truncate(self.top_k.max(1));
            kept.sort_unstable_by_key(|candidate| candidate.id);
        }
        let best = kept.iter().map(penalised).fold(f32::NEG_INFINITY, f32::max);
        kept.retain(|candidate| penalised(candidate) >= best - self.below_best);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_that_may_be_chosen_is_kept_and_nothing_else(
            logits in prop::collection::vec(-4_i8..4, 1..40),
            top_k in 1..50_usize,
            below_best in prop_oneof![Just(f32::INFINITY), 0_f32..5.0],
        ) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let cut = Cut { top_k, below_best, ..Cut::GREEDY };
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|a, b| cut.penalise(*b, logits[*b]).total_cmp(&cut.penalise(*a, logits[*a])));
            let best = cut.penalise(order[0], logits[order[0]]);
            let mut expected: Vec<u32> = order.into_iter().take(top_k)
                .filter(|id| cut.penalise(*id, logits[*id]) >= best - below_best)
                .map(|id| id as u32).collect();
            expected.sort_unstable();
            let mut kept = Vec::new();
            cut.keep(&logits, &mut kept).unwrap();
            prop_assert_eq!(kept.iter().map(|candidate| candidate.id).collect::<Vec<_>>(), expected);
            prop_assert!(kept.iter().all(|candidate| candidate.logit == logits[candidate.id as usize]));
        }
    }

    #[test]
    fn logits_that_are_no_numbers_are_an_error() {
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(matches!(Cut::GREEDY.keep(&[1.0, bad], &mut Vec::new()), Err(Error::NotFinite { .. })));
        }
    }
}
