//! Choosing the next token.
//!
//! What happens to the logits of one step, in this order; what is off does nothing:
//!
//! 1. A constraint (`constraint`) forbids what would break it.
//! 2. Repetition penalty; then logit bias, presence, frequency and DRY penalties are added (`adjust`).
//! 3. Tokens are dropped by top-n-sigma, then by top-k (`filters`).
//! 4. Temperature, fixed or dynamic (`temperature`); with `temperature_last` it comes behind the next step.
//! 5. Tokens are dropped by typical-p, top-p, min-p, XTC; or by Mirostat instead of all of them (`mirostat`).
//! 6. A random number chooses among those left.
//!
//! A seed gives one random number for each token, and one more where XTC is on: the n-th token of a seed does not
//! depend on how the ones before it were computed. Greedy decoding uses none.

mod adjust;
mod breakers;
mod constraint;
mod cutting;
mod dry;
mod filters;
mod logprobs;
mod mirostat;
mod options;
mod penalties;
mod remaining;
mod sampler;
mod temperature;
#[cfg(test)]
mod tests;

pub(crate) use constraint::Grammars;
pub use constraint::{Constraint, ConstraintSpec};
pub use logprobs::Logprobs;
pub use options::{DryOptions, MirostatOptions, SamplingOptions};
pub use sampler::{Sampled, Sampler};
