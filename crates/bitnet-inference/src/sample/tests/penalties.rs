//! Penalties against counting by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use crate::backend::Cut;
use crate::sample::adjust::Adjuster;
use crate::sample::{DryOptions, SamplingOptions};
use crate::tokenizer::TokenBytes;

const VOCAB: usize = 6;

/// Tokens of several bytes, some with a breaker in them or with a part of one.
const TOKENS: [&str; VOCAB] = ["a", "b", "ab", ":", "x;", ";y"];

/// Logits after the adjustment.
fn adjusted(adjuster: &Adjuster, logit: f32) -> Vec<f32> {
    let cut = Cut { adjustment: adjuster.adjustment(None), ..Cut::ALL };
    (0..VOCAB).map(|id| cut.penalise(id, logit)).collect()
}

/// DRY as it is described: for each earlier place, compare backwards.
fn dry(options: &DryOptions, text: &[u32]) -> BTreeMap<u32, usize> {
    let last_n = options.penalty_last_n.unwrap_or(text.len()).min(text.len());
    let is_breaker =
        |id: u32| options.sequence_breakers.iter().any(|b| TOKENS[id as usize].contains(b.as_str()));
    // Breakers may lie over several tokens: a token is a break where one ends in it.
    let is_break = |at: usize| {
        let bytes = |end: usize| text[..end].iter().map(|&id| TOKENS[id as usize]).collect::<String>();
        let (before, through) = (bytes(at).len(), bytes(at + 1));
        options
            .sequence_breakers
            .iter()
            .any(|b| (before + 1..=through.len()).any(|end| through[..end].ends_with(b)))
    };
    let mut longest = BTreeMap::new();
    for next in text.len() - last_n + 1..text.len() {
        let mut length = 0;
        while next - length > text.len() - last_n
            && text[next - 1 - length] == text[text.len() - 1 - length]
            && !is_break(text.len() - 1 - length)
        {
            length += 1;
        }
        if length >= options.allowed_length && !is_breaker(text[next]) {
            let entry = longest.entry(text[next]).or_insert(0);
            *entry = length.max(*entry);
        }
    }
    longest
}

proptest! {
    #[test]
    fn penalties_are_those_of_the_counts_in_the_window(
        text in prop::collection::vec(0..VOCAB as u32, 0..40),
        window in prop::option::of(0_usize..20),
        (repetition, presence, frequency) in (0.5_f32..2.0, -1.0_f32..1.0, -1.0_f32..1.0),
        logit in -5.0_f32..5.0,
        split in any::<prop::sample::Index>(),
    ) {
        let options = SamplingOptions {
            repetition_penalty: repetition, presence_penalty: presence, frequency_penalty: frequency,
            repeat_last_n: window, logit_bias: BTreeMap::from([(2, 0.5)]), ..SamplingOptions::default()
        };
        let mut adjuster = Adjuster::new(&options, VOCAB, None);
        let (prompt, generated) = text.split_at(split.index(text.len() + 1));
        adjuster.observe(prompt);
        for &id in generated {
            adjuster.observe(&[id]);
        }
        let recent = &text[text.len() - window.unwrap_or(text.len()).min(text.len())..];
        let expected = |id: u32| {
            let count = recent.iter().filter(|&&seen| seen == id).count();
            let bias = if id == 2 { 0.5 } else { 0.0 };
            if count == 0 {
                return logit + bias;
            }
            let logit = if logit > 0.0 { logit / repetition } else { logit * repetition };
            logit + (bias - (presence + frequency * count as f32))
        };
        let got = adjusted(&adjuster, logit);
        for id in 0..VOCAB as u32 {
            prop_assert!((got[id as usize] - expected(id)).abs() < 1e-5, "{} {:?}", id, got);
        }
    }

    #[test]
    fn dry_penalises_what_a_naive_search_finds(
        text in prop::collection::vec(0..VOCAB as u32, 0..60),
        penalty_last_n in prop::option::of(0_usize..40),
        allowed_length in 1_usize..4,
        breakers in prop::sample::subsequence(vec![":".to_owned(), ";;".to_owned(), "bx".to_owned()], 0..=3),
        split in any::<prop::sample::Index>(),
    ) {
        let dry_options =
            DryOptions { multiplier: 0.8, base: 1.5, allowed_length, penalty_last_n, sequence_breakers: breakers };
        let options = SamplingOptions { dry: dry_options.clone(), ..SamplingOptions::default() };
        let bytes = Arc::new(TOKENS.into_iter().collect::<TokenBytes>());
        let mut adjuster = Adjuster::new(&options, VOCAB, Some(bytes));
        let (prompt, generated) = text.split_at(split.index(text.len() + 1));
        adjuster.observe(prompt);
        for &id in generated {
            adjuster.observe(&[id]);
        }
        let expected = dry(&dry_options, &text);
        for (id, got) in (0..).zip(adjusted(&adjuster, 0.0)) {
            let penalty = expected.get(&id).map_or(0.0, |&n| 0.8 * 1.5_f32.powi((n - allowed_length) as i32));
            prop_assert!((got + penalty).abs() < 1e-4 * (1.0 + penalty), "{}: {} {}", id, got, penalty);
        }
    }
}

#[test]
fn an_endless_repetition_leaves_finite_logits() {
    let dry = DryOptions { multiplier: 1.0, ..DryOptions::default() };
    let options = SamplingOptions { dry, ..SamplingOptions::default() };
    let mut adjuster = Adjuster::new(&options, VOCAB, Some(Arc::new(TOKENS.into_iter().collect())));
    adjuster.observe(&[0; 2000]);
    let got = adjusted(&adjuster, 1.0);
    assert!(got[0] < -1e29 && got.iter().all(|logit| logit.is_finite()), "{got:?}");
}
