//! One step of sampling.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::adjust::Adjuster;
use super::mirostat::Mirostat;
use super::remaining::Remaining;
use super::temperature::temperature;
use super::{Constraint, Logprobs, SamplingOptions};
use crate::backend::{Candidate, Cut};
use crate::loaded_model::LoadedModel;
use crate::tokenizer::TokenBytes;
use crate::{Error, Result};

/// A token that was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The token.
    pub id: u32,
    /// What the model says of it, where that was asked for.
    pub logprobs: Option<Logprobs>,
}

/// Chooses the tokens of one text. Without DRY, constraint and log-probabilities it allocates only when it is made.
///
/// It sees every token of the prompt, then in turn gives a [`Cut`], chooses among what the cut keeps, and sees the token
/// that became part of the text.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplingOptions,
    seed: u64,
    random: ChaCha8Rng,
    adjuster: Adjuster,
    constraint: Option<Constraint>,
    mirostat: Option<Mirostat>,
    /// Buffer.
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler for the tokens of a model.
    ///
    /// Errors: [`Error::InvalidOption`], [`Error::Constraint`], [`Error::TokenOutOfRange`] for a bias; for a constraint or
    /// DRY, [`Error::Tokenizer`] where the bytes of the tokens are not known.
    pub fn new(options: &SamplingOptions, model: &LoadedModel) -> Result<Self> {
        options.check_numbers()?;
        let constraint =
            options.constraint.as_ref().map(|spec| model.grammars()?.constraint(spec)).transpose()?;
        let bytes = (options.dry.multiplier > 0.0).then(|| model.token_bytes()).transpose()?;
        Self::with(options, model.config().vocab_size, bytes, constraint)
    }

    /// A sampler of options that were checked.
    pub(super) fn with(
        options: &SamplingOptions,
        vocab_size: usize,
        bytes: Option<Arc<TokenBytes>>,
        constraint: Option<Constraint>,
    ) -> Result<Self> {
        if let Some(&id) = options.logit_bias.keys().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::TokenOutOfRange { id, vocab_size });
        }
        let seed = match options.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(|error| Error::io("random numbers", error.into()))?,
        };
        Ok(Self {
            adjuster: Adjuster::new(options, vocab_size, bytes),
            mirostat: options.mirostat.map(Mirostat::new),
            options: options.clone(),
            seed,
            random: ChaCha8Rng::seed_from_u64(seed),
            constraint,
            candidates: Vec::with_capacity(vocab_size),
        })
    }

    /// The seed in use.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Sees the tokens of the prompt, which penalties count and a constraint does not.
    pub fn observe_prompt(&mut self, ids: &[u32]) {
        self.adjuster.observe(ids);
    }

    /// Sees the next token of the text; not one that ends it.
    ///
    /// Errors: [`Error::Constraint`] when the constraint has become too complex.
    pub fn observe(&mut self, id: u32) -> Result<()> {
        self.adjuster.observe(&[id]);
        self.constraint.as_mut().map_or(Ok(()), |constraint| constraint.take(id))
    }

    /// Whether [`Self::cut`] does not depend on the tokens so far.
    pub(crate) fn has_fixed_cut(&self) -> bool {
        self.constraint.is_none() && self.adjuster.is_fixed()
    }

    /// What of the vocabulary the next [`Self::sample`] needs to see.
    pub fn cut(&self) -> Cut<'_> {
        let allowed = self.constraint.as_ref().map(Constraint::allowed);
        let rank = self.options.needed_rank();
        let top_k = match allowed {
            // Behind what may be chosen is nothing to look for.
            Some(allowed) if self.options.logprobs.is_none() => {
                rank.min((allowed.count() - self.adjuster.banned(allowed)).max(1))
            }
            _ => rank,
        };
        let below_best = self.options.needed_distance();
        Cut { top_k, below_best, adjustment: self.adjuster.adjustment(allowed) }
    }

    /// The next token, of candidates that hold all that [`Self::cut`] keeps, in the order of their ids.
    ///
    /// Errors: [`Error::Constraint`] when a bias bans every token that may follow.
    pub fn sample(&mut self, candidates: &[Candidate]) -> Result<Sampled> {
        let mut tokens = std::mem::take(&mut self.candidates);
        let id = self.choose(candidates, &mut tokens);
        let mut logprobs = |id| {
            let count = self.options.logprobs?;
            Some(Logprobs::of(candidates, id, count, &mut tokens))
        };
        let sampled = id.map(|id| Sampled { id, logprobs: logprobs(id) });
        self.candidates = tokens;
        sampled.ok_or_else(|| {
            let reason = "bans every token that may follow".to_owned();
            Error::Constraint { name: "logit_bias", reason }
        })
    }

    fn choose(&mut self, candidates: &[Candidate], tokens: &mut Vec<Candidate>) -> Option<u32> {
        let cut = self.cut();
        let adjusted = candidates
            .iter()
            .map(|&Candidate { id, logit }| Candidate { id, logit: cut.penalise(id as usize, logit) })
            .filter(|candidate| candidate.logit > f32::NEG_INFINITY);
        if self.options.is_greedy() || self.options.top_k == 1 {
            // The first of the largest, as argmax of NumPy and PyTorch.
            let best = adjusted.reduce(|best, next| if next.logit > best.logit { next } else { best });
            return best.map(|best| best.id);
        }
        tokens.clear();
        tokens.extend(adjusted);
        self.draw(tokens)
    }

    /// Draws one of the tokens, which are in the order of their ids.
    fn draw(&mut self, tokens: &mut Vec<Candidate>) -> Option<u32> {
        let is_excluding = self.options.xtc_probability > 0.0
            && uniform(&mut self.random) < f64::from(self.options.xtc_probability);
        let share = uniform(&mut self.random);
        if tokens.is_empty() {
            return None;
        }
        let mut remaining = Remaining { tokens, temperature: 1.0 };
        self.filter(&mut remaining, is_excluding);
        let (id, probability) = remaining.at(share)?;
        if let Some(mirostat) = &mut self.mirostat {
            mirostat.learn(probability);
        }
        Some(id)
    }

    fn filter(&self, remaining: &mut Remaining<'_>, is_excluding: bool) {
        let options = &self.options;
        if options.top_n_sigma > 0.0 {
            remaining.top_n_sigma(options.top_n_sigma);
        }
        if options.top_k > 0 {
            remaining.top_k(options.top_k);
        }
        if !options.temperature_last {
            remaining.temperature = temperature(options, remaining);
        }
        if options.typical_p < 1.0 {
            remaining.typical(options.typical_p);
        }
        if options.top_p < 1.0 {
            remaining.top_p(options.top_p);
        }
        if options.min_p > 0.0 {
            remaining.min_p(options.min_p);
        }
        if is_excluding {
            remaining.exclude_top_choices(options.xtc_threshold);
        }
        if options.temperature_last {
            remaining.temperature = temperature(options, remaining);
        }
        if let Some(mirostat) = &self.mirostat {
            mirostat.truncate(remaining);
        }
    }
}

/// Uniform in [0, 1), from the upper 53 bits.
fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}
