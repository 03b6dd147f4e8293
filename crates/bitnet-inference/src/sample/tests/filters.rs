//! Each filter keeps what its definition keeps.

use proptest::prelude::*;

use super::definitions::{self, Tokens};
use super::{candidates, plain};
use crate::backend::Candidate;
use crate::sample::mirostat::Mirostat;
use crate::sample::remaining::Remaining;
use crate::sample::temperature::temperature;
use crate::sample::{MirostatOptions, SamplingOptions};

/// The logits of a small vocabulary; now and then some are equal.
fn logits() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(prop_oneof![-8.0_f32..8.0, (-4..4).prop_map(|x| x as f32)], 1..200)
}

fn filtered(logits: &[f32], temperature: f32, filter: impl FnOnce(&mut Remaining<'_>)) -> Tokens {
    let mut tokens = candidates(logits);
    filter(&mut Remaining { tokens: &mut tokens, temperature });
    tokens.into_iter().map(|Candidate { id, logit }| (id, logit)).collect()
}

proptest! {
    #[test]
    fn filters_keep_what_their_definitions_keep(
        logits in logits(), temperature in 0.3_f32..3.0, p in 0.01_f32..0.99, k in 1_usize..100, n in 0.1_f32..4.0,
    ) {
        let all: Tokens = (0..).zip(logits.iter().copied()).collect();
        let t = temperature;
        prop_assert_eq!(filtered(&logits, t, |r| r.top_k(k)), definitions::top_k(&all, k));
        prop_assert_eq!(filtered(&logits, t, |r| r.top_p(p)), definitions::top_p(&all, t, p));
        prop_assert_eq!(filtered(&logits, t, |r| r.min_p(p)), definitions::min_p(&all, t, p));
        prop_assert_eq!(filtered(&logits, t, |r| r.top_n_sigma(n)), definitions::top_n_sigma(&all, n));
        let threshold = p / 2.0;
        let without_top = filtered(&logits, t, |r| r.exclude_top_choices(threshold));
        prop_assert_eq!(without_top, definitions::xtc(&all, t, threshold));
    }

    /// Tokens with the same distance may change places by a rounding: their logits are apart here.
    #[test]
    fn typical_keeps_what_its_definition_keeps(
        steps in prop::collection::vec(0.001_f32..0.5, 1..100), temperature in 0.3_f32..3.0, p in 0.01_f32..0.99,
    ) {
        let logits: Vec<f32> = steps.iter().scan(0.0, |sum, step| { *sum += step; Some(*sum) }).collect();
        let all: Tokens = (0..).zip(logits.iter().copied()).collect();
        let kept = filtered(&logits, temperature, |r| r.typical(p));
        prop_assert_eq!(kept, definitions::typical(&all, temperature, p));
    }

    #[test]
    fn the_dynamic_temperature_follows_the_entropy(logits in logits(), range in 0.1_f32..2.0, exponent in 0.3_f32..3.0) {
        let options = SamplingOptions { dynatemp_range: range, dynatemp_exponent: exponent, ..plain() };
        let mut tokens = candidates(&logits);
        let got = temperature(&options, &Remaining { tokens: &mut tokens, temperature: 1.0 });
        if logits.len() == 1 {
            prop_assert_eq!(got, 1.0);
            return Ok(());
        }
        let all: Tokens = (0..).zip(logits.iter().copied()).collect();
        let entropy: f64 = definitions::probabilities(&all, 1.0).iter().map(|p| -p * p.ln()).sum();
        let unsure = (entropy / (logits.len() as f64).ln()).powf(f64::from(exponent));
        let (low, high) = (f64::from((1.0 - range).max(0.0)), f64::from(1.0 + range));
        prop_assert!((f64::from(got) - low - (high - low) * unsure).abs() < 1e-5);
    }
}

#[test]
fn mirostat_comes_to_the_surprise_it_aims_at() {
    // A vocabulary whose frequencies follow Zipf's law.
    let logits: Vec<f32> = (1..=2000).map(|rank| -1.1 * (rank as f32).ln()).collect();
    for tau in [1.5_f32, 3.0, 5.0] {
        let mut mirostat = Mirostat::new(MirostatOptions { tau, eta: 0.1 });
        let mut sum = 0.0;
        for step in 0..3000 {
            let mut tokens = candidates(&logits);
            let mut remaining = Remaining { tokens: &mut tokens, temperature: 1.0 };
            mirostat.truncate(&mut remaining);
            // Shares that fill [0, 1) evenly.
            let (_, probability) = remaining.at((f64::from(step) * 0.618_033_988_75).fract()).unwrap();
            mirostat.learn(probability);
            if step >= 1000 {
                sum -= probability.log2();
            }
        }
        let mean = sum / 2000.0;
        assert!((mean - f64::from(tau)).abs() < 0.05, "{tau}: {mean}");
    }
}

#[test]
fn mirostat_keeps_the_most_probable_token_at_least() {
    let mut mirostat = Mirostat::new(MirostatOptions { tau: 0.0, eta: 1.0 });
    mirostat.learn(1e-6);
    let kept = filtered(&[0.0, 1.0, 0.5, 1.0], 1.0, |remaining| mirostat.truncate(remaining));
    assert_eq!(kept, [(1, 1.0)]);
}
