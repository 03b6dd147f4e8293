//! Choosing the next token.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::backend::{Candidate, Cut};
use crate::{Error, Result};

/// How the next token is chosen. The default is greedy.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Divides the logits; 0 takes the largest.
    pub temperature: f32,
    /// Keeps the `top_k` largest logits; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest tokens whose probabilities sum to at least `top_p`; 1 keeps all.
    pub top_p: f32,
    /// Drops tokens less probable than `min_p` times the most probable one; 0 keeps all.
    pub min_p: f32,
    /// Divides positive logits of tokens seen in prompt or text, multiplies negative ones; 1 does nothing.
    pub repetition_penalty: f32,
    /// Seed of the random numbers; `None` takes one from the operating system.
    pub seed: Option<u64>,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: None }
    }
}

impl SamplingOptions {
    /// Errors: [`Error::InvalidOption`] for a value out of its range.
    pub fn check(&self) -> Result<()> {
        let check = |name, holds: bool, expected, got: f32| {
            if holds { Ok(()) } else { Err(Error::InvalidOption { name, expected, got: got.to_string() }) }
        };
        let Self { temperature, top_p, min_p, repetition_penalty, .. } = *self;
        let is_finite_from_0 = |x: f32| x.is_finite() && x >= 0.0;
        check("temperature", is_finite_from_0(temperature), "a finite number of at least 0", temperature)?;
        check("top_p", top_p > 0.0 && top_p <= 1.0, "above 0 and at most 1", top_p)?;
        check("min_p", (0.0..=1.0).contains(&min_p), "between 0 and 1", min_p)?;
        let is_penalty = repetition_penalty.is_finite() && repetition_penalty > 0.0;
        check("repetition_penalty", is_penalty, "a finite number above 0", repetition_penalty)
    }
}

/// Chooses tokens; allocates only when it is made.
///
/// The order is that of transformers: repetition penalty, temperature, top-k, top-p, min-p, then one random number.
#[derive(Debug)]
pub(crate) struct Sampler {
    options: SamplingOptions,
    random: ChaCha8Rng,
    /// Tokens of prompt and text so far.
    seen: Vec<bool>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler for a vocabulary. Errors: [`Error::InvalidOption`].
    pub(crate) fn new(options: &SamplingOptions, vocab_size: usize) -> Result<Self> {
        options.check()?;
        let seed = match options.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(|error| Error::io("random numbers", error.into()))?,
        };
        Ok(Self {
            options: SamplingOptions { seed: Some(seed), ..options.clone() },
            random: ChaCha8Rng::seed_from_u64(seed),
            seen: vec![false; vocab_size],
            candidates: Vec::with_capacity(vocab_size),
        })
    }

    /// The seed in use.
    pub(crate) fn seed(&self) -> u64 {
        self.options.seed.unwrap_or_default()
    }

    /// Counts tokens for the repetition penalty.
    pub(crate) fn observe(&mut self, ids: &[u32]) {
        for &id in ids {
            self.seen[id as usize] = true;
        }
    }

    /// Whether [`Self::cut`] does not depend on the tokens so far.
    pub(crate) fn has_fixed_cut(&self) -> bool {
        self.options.repetition_penalty == 1.0
    }

    /// What of the vocabulary the next [`Self::sample`] needs to see.
    pub(crate) fn cut(&self) -> Cut<'_> {
        let SamplingOptions { temperature, top_k, top_p, min_p, repetition_penalty, .. } = self.options;
        let is_greedy = temperature == 0.0;
        let top_k = match (is_greedy, top_k) {
            (true, _) => 1,
            (false, 0) => usize::MAX,
            (false, top_k) => top_k,
        };
        // Min-p comes behind top-p, whose share is one of all that top-k left. The slack is for rounding.
        let counts_all = top_p < 1.0 && top_k == usize::MAX;
        let below_best = if is_greedy || counts_all || min_p == 0.0 {
            f32::INFINITY
        } else {
            temperature * (1e-4 - 1.0001 * min_p.ln())
        };
        let seen = if repetition_penalty == 1.0 { &[][..] } else { &self.seen };
        Cut { top_k, below_best, repetition_penalty, seen }
    }

    /// The next token, of candidates that hold all that [`Self::cut`] keeps, in the order of their ids.
    pub(crate) fn sample(&mut self, candidates: &[Candidate]) -> u32 {
        let mut kept = std::mem::take(&mut self.candidates);
        let cut = self.cut();
        let penalised = candidates
            .iter()
            .map(|&Candidate { id, logit }| Candidate { id, logit: cut.penalise(id as usize, logit) });
        if cut.top_k == 1 {
            // The first of the largest, as argmax of NumPy and PyTorch.
            let best = penalised.reduce(|best, next| if next.logit > best.logit { next } else { best });
            self.candidates = kept;
            return best.map_or(0, |best| best.id);
        }
        kept.clear();
        kept.extend(penalised);
        self.candidates = kept;
        self.draw()
    }

    fn draw(&mut self) -> u32 {
        let SamplingOptions { temperature, top_k, top_p, min_p, .. } = self.options;
        let all = &mut self.candidates;
        if top_k > 0 && top_k < all.len() {
            all.select_nth_unstable_by(top_k - 1, |a, b| most_probable_first(*a, *b));
            all.truncate(top_k);
        }
        let max = all.iter().fold(f32::NEG_INFINITY, |max, candidate| max.max(candidate.logit));
        let weight = |candidate: &Candidate| f64::from((candidate.logit - max) / temperature).exp();
        if top_p < 1.0 {
            all.sort_unstable_by(|a, b| most_probable_first(*a, *b));
            let total: f64 = all.iter().map(weight).sum();
            let mut sum = 0.0;
            let kept = all.iter().position(|candidate| {
                sum += weight(candidate);
                sum >= f64::from(top_p) * total
            });
            all.truncate(kept.map_or(all.len(), |last| last + 1));
        }
        if min_p > 0.0 {
            all.retain(|candidate| weight(candidate) >= f64::from(min_p));
        }
        // The order of the candidates must not depend on how they were selected.
        all.sort_unstable_by_key(|candidate| candidate.id);
        let total: f64 = all.iter().map(weight).sum();
        let mut left = uniform(&mut self.random) * total;
        let drawn = all.iter().find(|candidate| {
            left -= weight(candidate);
            left < 0.0
        });
        drawn.or(all.last()).map_or(0, |candidate| candidate.id)
    }
}

fn most_probable_first(a: Candidate, b: Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Uniform in [0, 1), from the upper 53 bits.
fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, 3.0, -1.0];

    fn candidates(logits: &[f32]) -> Vec<Candidate> {
        logits.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit }).collect()
    }

    fn options() -> SamplingOptions {
        SamplingOptions { temperature: 1.0, seed: Some(7), ..SamplingOptions::default() }
    }

    fn frequencies(options: &SamplingOptions, draws: usize) -> [f64; 5] {
        let mut sampler = Sampler::new(options, 5).unwrap();
        let mut counts = [0.0; 5];
        for _ in 0..draws {
            counts[sampler.sample(&candidates(&LOGITS)) as usize] += 1.0 / draws as f64;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let mut sampler = Sampler::new(&SamplingOptions::default(), 5).unwrap();
        assert_eq!(sampler.sample(&candidates(&LOGITS)), 1);
    }

    #[test]
    fn frequencies_follow_the_softmax_at_every_temperature() {
        for temperature in [0.5_f32, 1.0, 2.0] {
            let got = frequencies(&SamplingOptions { temperature, ..options() }, 20_000);
            let weights = LOGITS.map(|logit| f64::from(logit / temperature).exp());
            let total: f64 = weights.iter().sum();
            for (got, weight) in got.iter().zip(weights) {
                assert!((got - weight / total).abs() < 0.015, "{temperature}: {got} {}", weight / total);
            }
        }
    }

    #[test]
    fn each_filter_keeps_what_it_says() {
        let kept = |options: SamplingOptions| frequencies(&options, 2000).map(|share| share > 0.0);
        assert_eq!(kept(SamplingOptions { top_k: 1, ..options() }), [false, true, false, false, false]);
        assert_eq!(kept(SamplingOptions { top_k: 3, ..options() }), [false, true, true, true, false]);
        // Probabilities are about 0.05, 0.40, 0.15, 0.40, 0.01.
        assert_eq!(kept(SamplingOptions { top_p: 0.7, ..options() }), [false, true, false, true, false]);
        assert_eq!(kept(SamplingOptions { top_p: 0.9, ..options() }), [false, true, true, true, false]);
        assert_eq!(kept(SamplingOptions { min_p: 0.3, ..options() }), [false, true, true, true, false]);
    }

    #[test]
    fn the_penalty_lowers_seen_tokens_of_either_sign() {
        let mut sampler =
            Sampler::new(&SamplingOptions { repetition_penalty: 2.0, ..SamplingOptions::default() }, 3)
                .unwrap();
        sampler.observe(&[0]);
        assert_eq!(sampler.sample(&candidates(&[3.0, 2.0, 0.0])), 1);
        assert_eq!(sampler.sample(&candidates(&[-1.0, -1.5, -9.0])), 1);
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens() {
        let draw = |seed| {
            let mut sampler = Sampler::new(&SamplingOptions { seed: Some(seed), ..options() }, 5).unwrap();
            (0..50).map(|_| sampler.sample(&candidates(&LOGITS))).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn options_out_of_range_are_errors() {
        let bad = [
            SamplingOptions { temperature: -1.0, ..options() },
            SamplingOptions { temperature: f32::NAN, ..options() },
            SamplingOptions { top_p: 0.0, ..options() },
            SamplingOptions { top_p: 1.5, ..options() },
            SamplingOptions { min_p: -0.1, ..options() },
            SamplingOptions { repetition_penalty: 0.0, ..options() },
        ];
        for options in bad {
            assert!(matches!(Sampler::new(&options, 5), Err(Error::InvalidOption { .. })), "{options:?}");
        }
    }
}
