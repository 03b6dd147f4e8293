//! The temperature of a step.

use super::SamplingOptions;
use super::remaining::Remaining;

/// The temperature: fixed, or for `dynatemp_range` r and `dynatemp_exponent` e
///
/// `low + (high - low) * (H / ln n)^e`, with `low = max(temperature - r, 0)`, `high = temperature + r`,
///
/// H the entropy of the n remaining tokens at temperature 1.
///
/// Source: dynamic temperature of llama.cpp, <https://github.com/ggml-org/llama.cpp/pull/4972>.
pub(super) fn temperature(options: &SamplingOptions, remaining: &Remaining<'_>) -> f32 {
    let SamplingOptions { temperature, dynatemp_range: range, dynatemp_exponent: exponent, .. } = *options;
    let count = remaining.tokens.len();
    if range == 0.0 || count < 2 {
        return temperature.max(f32::MIN_POSITIVE);
    }
    let (entropy, _) = remaining.entropy();
    let (low, high) = ((temperature - range).max(0.0), temperature + range);
    // Rounding may put the entropy a little beyond either end.
    let unsure = (entropy / (count as f64).ln()).clamp(0.0, 1.0);
    let dynamic = low + (high - low) * unsure.powf(f64::from(exponent)) as f32;
    dynamic.max(f32::MIN_POSITIVE)
}
