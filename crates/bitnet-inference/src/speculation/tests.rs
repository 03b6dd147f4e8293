//! Guesses change how fast a text comes, and nothing else.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::{
    ConstraintSpec, DryOptions, GenerateOptions, LoadOptions, MirostatOptions, Prompt, SamplingOptions,
};

static MODEL: LazyLock<Arc<LoadedModel>> =
    LazyLock::new(|| LoadedModel::embedded(&LoadOptions::default()).unwrap());

/// The model guesses for itself: greedily, so that a sampled text takes some guesses and leaves others.
fn sources() -> [Source; 2] {
    [Source::Lookup, Source::Draft(Arc::clone(&MODEL))]
}

/// A prompt that repeats itself, with something else in between.
fn prompt(kind: u32) -> Vec<u32> {
    let part: Vec<u32> = (0..12).map(|i| (i * 7919 + kind * 104_729) % 2000).collect();
    [&part[..], &[kind], &part, &part[3..7]].concat()
}

fn sampled(seed: u64) -> SamplingOptions {
    SamplingOptions { temperature: 0.7, seed: Some(seed), ..SamplingOptions::default() }
}

#[test]
fn a_text_is_the_same_token_by_token_with_guesses() {
    let samplings = [
        SamplingOptions::default(),
        SamplingOptions { repetition_penalty: 1.3, ..SamplingOptions::default() },
        sampled(0),
        SamplingOptions { top_k: 20, repetition_penalty: 1.1, ..sampled(0) },
        SamplingOptions { top_p: 0.8, ..sampled(0) },
        SamplingOptions { min_p: 0.05, temperature: 1.5, ..sampled(0) },
        SamplingOptions { mirostat: Some(MirostatOptions::default()), logprobs: Some(2), ..sampled(0) },
        SamplingOptions { dry: DryOptions { multiplier: 0.8, ..DryOptions::default() }, ..sampled(0) },
        SamplingOptions { constraint: Some(ConstraintSpec::Regex("([a-z]+ )+".to_owned())), ..sampled(0) },
    ];
    for source in sources() {
        let mut total = Guesses::default();
        for (index, sampling) in samplings.iter().enumerate() {
            for seed in 0..4 {
                let ids = prompt(seed as u32 + 10 * index as u32);
                let seed = sampling.seed.map(|_| seed);
                let sampling = SamplingOptions { seed, ..sampling.clone() };
                let plain = GenerateOptions { max_tokens: 30, sampling, ..GenerateOptions::default() };
                let expected = MODEL.generate(Prompt::Ids(&ids), &plain).unwrap();
                for guesses in [Some(1), Some(5), None] {
                    let speculation = Some(Speculation { source: source.clone(), guesses });
                    let options = GenerateOptions { speculation, ..plain.clone() };
                    let got = MODEL.generate(Prompt::Ids(&ids), &options).unwrap();
                    assert_eq!(
                        got.token_ids,
                        expected.token_ids,
                        "{sampling:?} {guesses:?}",
                        sampling = plain.sampling
                    );
                    assert_eq!(
                        (&got.text, got.finish_reason, &got.logprobs),
                        (&expected.text, expected.finish_reason, &expected.logprobs)
                    );
                    total.proposed += got.guesses.proposed;
                    total.accepted += got.guesses.accepted;
                }
            }
        }
        // Some were right and some were wrong, so that both were compared.
        assert!(0 < total.accepted && total.accepted < total.proposed, "{total:?}");
    }
}

#[test]
fn a_text_ends_where_it_ends_without_guesses() {
    let ids = prompt(0);
    let all = MODEL.generate(Prompt::Ids(&ids), &GenerateOptions::default()).unwrap();
    let stop =
        all.text.char_indices().nth(all.text.chars().count() / 2).map(|(at, _)| all.text[at..].to_owned());
    for source in sources() {
        for max_tokens in [1, 2, 3, 9] {
            let speculation = Some(Speculation { source: source.clone(), guesses: Some(7) });
            let options = GenerateOptions { max_tokens, speculation, ..GenerateOptions::default() };
            let got = MODEL.generate(Prompt::Ids(&ids), &options).unwrap();
            assert_eq!(got.token_ids, all.token_ids[..max_tokens]);
            let stop = stop.iter().map(|stop| stop.chars().take(3).collect()).collect();
            let plain = GenerateOptions { stop, ..GenerateOptions::default() };
            let expected = MODEL.generate(Prompt::Ids(&ids), &plain).unwrap();
            let got = MODEL
                .generate(Prompt::Ids(&ids), &GenerateOptions { speculation: options.speculation, ..plain });
            let got = got.unwrap();
            assert_eq!((got.text, got.token_ids), (expected.text, expected.token_ids));
        }
    }
}

/// Of 800 texts of three tokens, the last of which stand behind guesses, each comes as often as the model says. The
/// statistic is chi squared with 26 degrees of freedom: 64 is exceeded once in 20,000 times, and the seeds are fixed.
#[test]
fn sampled_texts_have_the_distribution_of_the_model() {
    const TEXTS: u64 = 800;
    let ids = prompt(3);
    let (top_k, temperature) = (3, 1.0);
    let speculation = Some(Speculation { source: Source::Draft(Arc::clone(&MODEL)), guesses: Some(2) });
    let mut counts = std::collections::HashMap::<Vec<u32>, u64>::new();
    let mut guesses = Guesses::default();
    for seed in 0..TEXTS {
        let sampling = SamplingOptions { top_k, temperature, seed: Some(seed), ..SamplingOptions::default() };
        let options = GenerateOptions {
            max_tokens: 3,
            sampling,
            speculation: speculation.clone(),
            ..GenerateOptions::default()
        };
        let text = MODEL.generate(Prompt::Ids(&ids), &options).unwrap();
        *counts.entry(text.token_ids).or_default() += 1;
        guesses.proposed += text.guesses.proposed;
        guesses.accepted += text.guesses.accepted;
    }
    assert!(0 < guesses.accepted && guesses.accepted < guesses.proposed, "{guesses:?}");
    let mut chi_squared = 0.0;
    for (text, probability) in continuations(&ids, 3, top_k) {
        let expected = probability * TEXTS as f64;
        let count = counts.remove(&text).unwrap_or(0) as f64;
        chi_squared += (count - expected).powi(2) / expected;
    }
    assert!(counts.is_empty(), "{counts:?} cannot be");
    assert!(chi_squared < 64.0, "{chi_squared}");
}

/// All texts of `len` tokens that top-k leaves, and how probable they are.
fn continuations(ids: &[u32], len: usize, top_k: usize) -> Vec<(Vec<u32>, f64)> {
    if len == 0 {
        return vec![(Vec::new(), 1.0)];
    }
    let mut logits = Vec::new();
    let last = ids.len() - 1;
    let visit = |position, all: &[f32]| {
        if position == last {
            logits = all.iter().map(|logit| f64::from(*logit)).zip(0..).collect::<Vec<(f64, u32)>>();
        }
        Ok::<(), Error>(())
    };
    MODEL.visit_logits(ids, ids.len(), visit).unwrap();
    logits.sort_by(|a, b| b.0.total_cmp(&a.0));
    logits.truncate(top_k);
    let total: f64 = logits.iter().map(|(logit, _)| logit.exp()).sum();
    let mut all = Vec::new();
    for (logit, id) in logits {
        for (text, probability) in continuations(&[ids, &[id]].concat(), len - 1, top_k) {
            all.push(([&[id][..], &text].concat(), logit.exp() / total * probability));
        }
    }
    all
}

fn guesses(lookup: &mut Lookup, tokens: &[u32], fixed: usize) -> Vec<u32> {
    let times = StepTimes::default();
    let place = Place { most: 100, beside: 0, times: &times };
    lookup.guess(tokens, Length { place, fixed: Some(fixed) }).to_vec()
}

proptest! {
    #[test]
    fn a_lookup_finds_what_a_search_of_the_whole_text_finds(
        tokens in prop::collection::vec(0_u32..4, 1..60),
        prompt in 0_usize..60,
    ) {
        let mut lookup = Lookup::new(&tokens[..prompt.min(tokens.len())]);
        let got = guesses(&mut lookup, &tokens, 1);
        // The longest run up to four tokens that ends the text and was there before.
        let found = (2..=4.min(tokens.len())).rev().find(|&len| {
            tokens[..tokens.len() - 1].windows(len).any(|run| run == &tokens[tokens.len() - len..])
        });
        prop_assert_eq!(got.is_empty(), found.is_none());
        if let (Some(len), Some(guess)) = (found, got.first()) {
            let run = [&tokens[tokens.len() - len..], &[*guess]].concat();
            prop_assert!(tokens.windows(len + 1).any(|tokens| tokens == run), "{:?} never came", run);
        }
    }
}

#[test]
fn a_lookup_goes_on_with_what_repeats() {
    let mut lookup = Lookup::new(&[1, 2, 3, 4, 9, 9, 1, 2]);
    assert_eq!(guesses(&mut lookup, &[1, 2, 3, 4, 9, 9, 1, 2], 5), [3, 4, 9, 9, 1]);
    // A loop of three goes round.
    assert_eq!(guesses(&mut Lookup::new(&[7, 5, 6, 7, 5, 6]), &[7, 5, 6, 7, 5, 6], 7), [7, 5, 6, 7, 5, 6, 7]);
    assert!(guesses(&mut Lookup::new(&[1, 2, 3, 1]), &[1, 2, 3, 1], 5).is_empty());
}

#[test]
fn times_lie_on_the_line_between_those_that_were_measured() {
    let times = StepTimes::default();
    let check = |tokens, seconds: f64| {
        let got = times.of(tokens).unwrap();
        assert!((got / seconds - 1.0).abs() < 0.01, "{tokens} tokens: {got}, not {seconds}");
    };
    times.record(100, 10.0);
    assert_eq!(times.of(1), None);
    times.record(1, 1.0);
    times.record(2, 2.0);
    for (tokens, seconds) in [(1, 1.0), (2, 2.0), (51, 6.0), (100, 10.0), (149, 14.0)] {
        check(tokens, seconds);
    }
    // More tokens are not taken for cheaper.
    times.record(4, 1.5);
    check(4, 2.0);
    times.record(1, 2.0);
    check(1, 1.25);
    // What is not measured any more fades.
    (0..1000).for_each(|_| times.record(1, 1.0));
    check(1, 1.0);
    assert!(times.of(100).unwrap() < 5.0);
}

#[test]
fn there_are_as_many_guesses_as_are_worth_their_time() {
    let times = StepTimes::default();
    let best = |times: &StepTimes, beside, rate: f64, seconds| {
        let place = Place { most: 20, beside, times };
        Length { place, fixed: None }.best(|_| rate, seconds)
    };
    assert_eq!(best(&times, 0, 1.0, 0.0), 0, "nothing is known");
    times.record(1, 1.0);
    times.record(16, 4.0);
    times.record(512, 103.2);
    // A step of 1 + g takes 1 + g / 5: with rate r the gain is (1 - r^(1 + g)) / (1 - r) / (1 + g / 5).
    assert_eq!(best(&times, 0, 1.0, 0.0), 20);
    assert_eq!(best(&times, 0, 0.6, 0.0), 2);
    assert_eq!(best(&times, 0, 0.1, 0.0), 0);
    // A draft that takes as long as a step is worth nothing.
    assert_eq!(best(&times, 0, 0.9, 1.0), 0);
    // Beside many others each token costs what it is worth.
    assert_eq!(best(&times, 100, 0.9, 0.0), 0);
}

#[test]
fn guesses_that_are_none_are_refused() {
    let speculation = Some(Speculation { source: Source::Lookup, guesses: Some(0) });
    let options = GenerateOptions { speculation, ..GenerateOptions::default() };
    assert!(matches!(options.check(), Err(Error::InvalidOption { name: "guesses", .. })));
    assert!(matches!("look".parse::<Source>(), Err(Error::InvalidOption { name: "speculate", .. })));
}
