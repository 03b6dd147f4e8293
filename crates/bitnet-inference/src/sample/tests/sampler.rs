//! The whole sampler: its statistics, its random numbers, and that a cut leaves all it needs.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::{candidates, plain, sampler};
use crate::Error;
use crate::backend::{Candidate, Cut};
use crate::sample::{ConstraintSpec, Grammars, MirostatOptions, Sampler, SamplingOptions};
use crate::tokenizer::TokenBytes;

const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, 3.0, -1.0];

const VOCAB: usize = 27;

/// A model whose tokens are the letters, and the end of the text.
static LETTERS: LazyLock<Grammars> = LazyLock::new(|| {
    let bytes: TokenBytes = (b'a'..=b'z').map(|byte| vec![byte]).chain([Vec::new()]).collect();
    Grammars::new(&bytes, VOCAB, &[26]).unwrap()
});

fn frequencies(options: &SamplingOptions, draws: usize) -> [f64; 5] {
    let mut sampler = sampler(options, 5);
    let mut counts = [0.0; 5];
    for _ in 0..draws {
        counts[sampler.sample(&candidates(&LOGITS)).unwrap().id as usize] += 1.0 / draws as f64;
    }
    counts
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    let mut sampler = sampler(&SamplingOptions::default(), 5);
    assert_eq!(sampler.sample(&candidates(&LOGITS)).unwrap().id, 1);
}

#[test]
fn frequencies_follow_the_softmax_at_every_temperature() {
    for temperature in [0.5_f32, 1.0, 2.0] {
        let got = frequencies(&SamplingOptions { temperature, ..plain() }, 20_000);
        let weights = LOGITS.map(|logit| f64::from(logit / temperature).exp());
        let total: f64 = weights.iter().sum();
        for (got, weight) in got.iter().zip(weights) {
            assert!((got - weight / total).abs() < 0.015, "{temperature}: {got} {}", weight / total);
        }
    }
}

#[test]
fn top_choices_are_excluded_as_often_as_said() {
    // Two tokens of 0.40 and one of 0.15 are above a tenth; the latter stays.
    let options = SamplingOptions { xtc_probability: 0.3, xtc_threshold: 0.1, ..plain() };
    let (before, after) = (frequencies(&plain(), 20_000), frequencies(&options, 20_000));
    for id in [1, 3] {
        assert!((after[id] - 0.7 * before[id]).abs() < 0.015, "{after:?}");
    }
    let kept = frequencies(&SamplingOptions { xtc_probability: 1.0, ..options }, 500);
    assert_eq!(kept.map(|share| share > 0.0), [true, false, true, false, true]);
}

#[test]
fn the_temperature_comes_last_where_asked() {
    // At temperature 4 the probabilities are closer to each other: more tokens are above half the largest.
    let options = SamplingOptions { temperature: 4.0, min_p: 0.5, ..plain() };
    let kept = |options: &SamplingOptions| frequencies(options, 500).map(|share| share > 0.0);
    assert_eq!(kept(&options), [true, true, true, true, false]);
    let last = SamplingOptions { temperature_last: true, ..options };
    assert_eq!(kept(&last), [false, true, false, true, false]);
}

#[test]
fn a_bias_of_minus_infinity_bans() {
    let ban = |ids: &[u32]| ids.iter().map(|&id| (id, f32::NEG_INFINITY)).collect::<BTreeMap<_, _>>();
    for options in [SamplingOptions::default(), plain()] {
        let mut some = sampler(&SamplingOptions { logit_bias: ban(&[1, 3]), ..options.clone() }, 5);
        assert!((0..200).all(|_| ![1, 3].contains(&some.sample(&candidates(&LOGITS)).unwrap().id)));
        let mut all = sampler(&SamplingOptions { logit_bias: ban(&[0, 1, 2, 3, 4]), ..options }, 5);
        let error = all.sample(&candidates(&LOGITS)).unwrap_err();
        assert!(matches!(error, Error::Constraint { name: "logit_bias", .. }), "{error}");
    }
    let outside = SamplingOptions { logit_bias: ban(&[5]), ..plain() };
    assert!(matches!(Sampler::with(&outside, 5, None, None), Err(Error::TokenOutOfRange { id: 5, .. })));
}

#[test]
fn log_probabilities_are_those_of_the_model() {
    let options = SamplingOptions {
        logprobs: Some(3),
        temperature: 0.3,
        logit_bias: BTreeMap::from([(1, -100.0)]),
        ..SamplingOptions::default()
    };
    let mut sampler = sampler(&options, 5);
    assert_eq!((sampler.cut().top_k, sampler.cut().below_best), (usize::MAX, f32::INFINITY));
    let sampled = sampler.sample(&candidates(&LOGITS)).unwrap();
    let got = sampled.logprobs.unwrap();
    let total: f64 = LOGITS.iter().map(|&logit| f64::from(logit).exp()).sum();
    let expected = |id: u32| f64::from(LOGITS[id as usize]) - total.ln();
    assert!((f64::from(got.logprob) - expected(sampled.id)).abs() < 1e-6);
    assert_eq!(got.top.iter().map(|&(id, _)| id).collect::<Vec<_>>(), [1, 3, 2]);
    assert!(got.top.iter().all(|&(id, logprob)| (f64::from(logprob) - expected(id)).abs() < 1e-6));
}

/// Options in every combination that can be.
fn options() -> impl Strategy<Value = SamplingOptions> {
    let on = |values: std::ops::Range<f32>, off: f32| prop_oneof![2 => Just(off), 1 => values];
    let shape = (on(0.3..2.5, 0.0), on(0.1..1.0, 0.0), any::<bool>(), prop_oneof![Just(0), 1_usize..12]);
    let filters =
        (on(0.2..0.99, 1.0), on(0.01..0.5, 0.0), on(0.2..0.99, 1.0), on(0.3..3.0, 0.0), on(0.2..1.0, 0.0));
    let penalties = (on(0.6..1.8, 1.0), on(-0.5..0.9, 0.0), on(-0.2..0.5, 0.0), prop::option::of(0_usize..9));
    let biases =
        prop::collection::btree_map(0..26_u32, prop_oneof![Just(f32::NEG_INFINITY), -2.0..2.0_f32], 0..4);
    let rest =
        (prop::option::weighted(0.2, 0_usize..4), prop::option::weighted(0.2, 0.5_f32..5.0), any::<u64>());
    (shape, filters, penalties, biases, rest).prop_map(|(shape, filters, penalties, logit_bias, rest)| {
        let (temperature, dynatemp_range, temperature_last, top_k) = shape;
        let (top_p, min_p, typical_p, top_n_sigma, xtc_probability) = filters;
        let (repetition_penalty, presence_penalty, frequency_penalty, repeat_last_n) = penalties;
        let (logprobs, tau, seed) = rest;
        let penalised = SamplingOptions {
            temperature,
            dynatemp_range,
            temperature_last,
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            repeat_last_n,
            logit_bias,
            logprobs,
            seed: Some(seed),
            ..SamplingOptions::default()
        };
        match tau {
            Some(tau) => SamplingOptions { mirostat: Some(MirostatOptions { tau, eta: 0.3 }), ..penalised },
            None => {
                SamplingOptions { top_k, top_p, min_p, typical_p, top_n_sigma, xtc_probability, ..penalised }
            }
        }
    })
}

/// What a backend must give at least.
fn kept(logits: &[f32], cut: &Cut<'_>) -> Vec<Candidate> {
    let mut all = candidates(logits);
    let value = |token: &Candidate| cut.penalise(token.id as usize, token.logit);
    all.sort_by(|a, b| value(b).total_cmp(&value(a)).then(a.id.cmp(&b.id)));
    let lowest = value(&all[0]) - cut.below_best;
    all.truncate(cut.top_k);
    all.retain(|token| value(token) >= lowest);
    all.sort_by_key(|token| token.id);
    all
}

proptest! {
    /// With the candidates of the cut, and with those of all, the same tokens are drawn; and an adjustment that only
    /// lowers says so.
    #[test]
    fn a_cut_leaves_all_that_is_needed(
        options in options(),
        steps in prop::collection::vec(prop::collection::vec(-6.0_f32..6.0, VOCAB), 8),
        is_constrained: bool,
    ) {
        let spec = ConstraintSpec::Regex("[a-m]{2}[n-z]+".to_owned());
        let constraint = is_constrained.then(|| LETTERS.constraint(&spec).unwrap());
        let mut on_cut = Sampler::with(&options, VOCAB, None, constraint).unwrap();
        let mut on_all = on_cut.clone();
        on_cut.observe_prompt(&[3, 4, 3]);
        on_all.observe_prompt(&[3, 4, 3]);
        for logits in steps {
            let cut = on_cut.cut();
            let raised = (0..).zip(&logits).any(|(id, &logit)| cut.penalise(id, logit) > logit);
            prop_assert!(!(raised && cut.only_lowers()));
            let few = kept(&logits, &cut);
            let (few, all) = (on_cut.sample(&few), on_all.sample(&candidates(&logits)));
            let (few, all) = match (few, all) {
                (Ok(few), Ok(all)) => (few, all),
                (few, all) => {
                    prop_assert!(few.is_err() && all.is_err());
                    break;
                }
            };
            prop_assert_eq!(&few, &all);
            if few.id == 26 {
                break;
            }
            on_cut.observe(few.id).unwrap();
            on_all.observe(few.id).unwrap();
        }
    }

    /// Whatever was drawn before, the n-th token of a seed is made of the n-th random numbers.
    #[test]
    fn a_draw_does_not_depend_on_those_before_it(options in options(), n in 0_usize..6) {
        let options = SamplingOptions {
            repetition_penalty: 1.0, presence_penalty: 0.0, frequency_penalty: 0.0, mirostat: None,
            logit_bias: BTreeMap::new(), ..options
        };
        let draw = |before: &[f32]| {
            let mut sampler = sampler(&options, 5);
            (0..n).for_each(|_| drop(sampler.sample(&candidates(before)).unwrap()));
            sampler.sample(&candidates(&LOGITS)).unwrap()
        };
        prop_assert_eq!(draw(&[0.0; 5]), draw(&[9.0, -9.0, -50.0, 0.0, 1.0]));
    }
}

#[test]
fn the_same_seed_draws_the_same_tokens() {
    let draw = |seed| {
        let mut sampler = sampler(&SamplingOptions { seed: Some(seed), ..plain() }, 5);
        (0..50).map(|_| sampler.sample(&candidates(&LOGITS)).unwrap().id).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn the_cut_stays_small_where_it_can() {
    let cut = |options: SamplingOptions| {
        let sampler = sampler(&options, 1000);
        let Cut { top_k, below_best, .. } = sampler.cut();
        (top_k, below_best)
    };
    assert_eq!(cut(SamplingOptions::default()), (1, f32::INFINITY));
    let penalised = SamplingOptions { top_k: 40, repetition_penalty: 1.3, presence_penalty: 1.0, ..plain() };
    assert_eq!(cut(penalised.clone()), (40, f32::INFINITY));
    assert_eq!(cut(SamplingOptions { typical_p: 0.9, xtc_probability: 0.5, ..penalised.clone() }).0, 40);
    assert!((cut(SamplingOptions { min_p: 0.1, ..penalised }).1 - 10.0_f32.ln()).abs() < 0.01);
    assert!(
        (cut(SamplingOptions { min_p: 0.1, xtc_probability: 0.5, ..plain() }).1 - 10.0_f32.ln()).abs() < 0.01
    );
    let whole = (usize::MAX, f32::INFINITY);
    assert_eq!(cut(SamplingOptions { min_p: 0.1, top_p: 0.9, ..plain() }), whole);
    assert_eq!(cut(SamplingOptions { top_k: 40, top_n_sigma: 1.0, ..plain() }), whole);
    assert_eq!(cut(SamplingOptions { mirostat: Some(MirostatOptions::default()), ..plain() }), whole);
}
