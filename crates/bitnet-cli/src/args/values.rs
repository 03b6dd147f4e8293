//! Values of options.

use bitnet_benchmarks::Synthetic;
use bitnet_core::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// Sequences at once that no machine has enough of.
const MAX_BATCH: usize = 1024;

/// The name of a synthetic model.
pub(super) fn synthetic() -> impl TypedValueParser<Value = Synthetic> {
    PossibleValuesParser::new(Synthetic::ALL.map(|synthetic| synthetic.name))
        .try_map(|name| Synthetic::parse(&name).ok_or("there is no such shape"))
}

/// A number of tokens, perhaps none.
pub(super) fn length(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "a whole number is needed".to_owned())
}

/// A number of sequences at once.
pub(super) fn batch(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|batch| (1..=MAX_BATCH).contains(batch))
        .ok_or_else(|| format!("a whole number from 1 to {MAX_BATCH} is needed"))
}

/// A number of bytes, at least one.
pub(super) fn size(text: &str) -> Result<usize, String> {
    match text.parse::<ByteSize>().ok().and_then(|size| usize::try_from(size.bytes()).ok()) {
        None | Some(0) => Err("a size like 5GB, 200MB or 1000000 is needed".to_owned()),
        Some(size) => Ok(size),
    }
}

/// A number, perhaps infinite.
pub(super) fn number(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number: &f64| !number.is_nan()).ok_or_else(|| "a number is needed".to_owned())
}

/// A number above 0.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| *rate > 0.0 && rate.is_finite())
        .ok_or_else(|| "a number above 0 is needed".to_owned())
}

/// A factor that may be 0.
pub(super) fn weight(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|weight: &f64| *weight >= 0.0 && weight.is_finite())
        .ok_or_else(|| "a number of at least 0 is needed".to_owned())
}

/// A number of things, at least one.
pub(super) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number of at least 1 is needed".to_owned()),
        Ok(count) => Ok(count),
    }
}
