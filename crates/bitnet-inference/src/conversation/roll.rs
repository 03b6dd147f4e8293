//! Which tokens to forget so that a cache holds what a prompt begins with.

use std::ops::Range;

/// A shorter match is as soon read again, and may be there by chance.
const SHORTEST: usize = 16;

/// Tokens with which both begin.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The tokens of `held` to forget for the most of `ids` to be there: those behind the common beginning, up to where `ids`
/// go on. `None` where hardly anything is gained.
pub(super) fn gap(held: &[u32], ids: &[u32]) -> Option<Range<usize>> {
    let start = common(held, ids);
    let matched = |end: &usize| common(&held[*end..], &ids[start..]);
    // Of matches of the same length the first is taken, which forgets the least.
    let end = (start + 1..held.len()).rev().max_by_key(matched)?;
    (matched(&end) >= SHORTEST).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_what_the_prompt_leaves_out() {
        let held: Vec<u32> = (0..100).collect();
        let without = |gap: Range<usize>| [&held[..gap.start], &held[gap.end..], &[500, 501]].concat();
        for range in [3..40, 1..2, 50..84] {
            assert_eq!(gap(&held, &without(range.clone())), Some(range));
        }
        assert_eq!(gap(&held, &without(50..85)), None, "15 tokens are read again");
        assert_eq!(gap(&held, &without(20..100)), None, "nothing behind");
        assert_eq!(gap(&held, &held), None);
        assert_eq!(gap(&[], &held), None);
    }

    #[test]
    fn what_turns_have_in_common_at_their_beginning_belongs_to_the_first() {
        let turn = |kind: u32| (0..20).map(move |i| if i < 2 { 7 } else { 100 * kind + i });
        let held: Vec<u32> = [1].into_iter().chain((1..4).flat_map(turn)).collect();
        let ids: Vec<u32> = [1].into_iter().chain((2..4).flat_map(turn)).chain([9]).collect();
        let gap = gap(&held, &ids).unwrap();
        let left = [&held[..gap.start], &held[gap.end..]].concat();
        assert_eq!((gap.len(), left.as_slice()), (20, &ids[..ids.len() - 1]));
    }
}
