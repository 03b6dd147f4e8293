//! The sampler against plain definitions, and against statistics.

mod definitions;
mod filters;
mod large_vocabulary;
mod model;
mod penalties;
mod sampler;

use super::{Sampler, SamplingOptions};
use crate::backend::Candidate;

fn candidates(logits: &[f32]) -> Vec<Candidate> {
    logits.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit }).collect()
}

/// Random sampling from the model's own distribution.
fn plain() -> SamplingOptions {
    SamplingOptions { temperature: 1.0, seed: Some(7), ..SamplingOptions::default() }
}

fn sampler(options: &SamplingOptions, vocab_size: usize) -> Sampler {
    options.check().unwrap();
    Sampler::with(options, vocab_size, None, None).unwrap()
}
