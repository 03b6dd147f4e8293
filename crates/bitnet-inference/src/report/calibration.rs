//! What linears multiply while a text is read: statistics of all of it, and a sample of its tokens.

use std::collections::BTreeMap;
use std::ops::Range;

use bitnet_core::ThreadPool;
use bitnet_quant::{ActivationOptions, ErrorMeter, ErrorMetrics, Statistics, quantize_activations_with};
use serde::Serialize;

use super::serialize;
use crate::model::LINEARS;
use crate::{Error, Result};

/// The input of one linear, or of several that share it.
#[derive(Debug, Clone, Serialize)]
pub struct LinearInput {
    /// Names of the linears.
    pub linears: Vec<String>,
    /// Of all tokens.
    #[serde(flatten, serialize_with = "serialize::statistics")]
    pub statistics: Statistics,
    /// What rounding to int8, with a scale for each token, does to the sample.
    #[serde(serialize_with = "serialize::metrics")]
    pub int8: ErrorMetrics,
}

/// Inputs taken in as they come.
pub(super) struct Calibration {
    /// By block and first linear.
    inputs: BTreeMap<(usize, usize), Input>,
    /// Tokens to come, and how many of them are kept.
    all: usize,
    sampled: usize,
    done: usize,
}

struct Input {
    linears: Vec<String>,
    width: usize,
    statistics: Statistics,
    /// `[sampled, width]`.
    sample: Vec<f32>,
}

impl Calibration {
    /// For `all` tokens, of which up to `most` are kept.
    pub(super) fn new(all: usize, most: usize) -> Self {
        Self { inputs: BTreeMap::new(), all, sampled: most.min(all), done: 0 }
    }

    /// Tokens of the sample.
    pub(super) fn sampled(&self) -> usize {
        self.sampled
    }

    /// Takes in what `linears` of a block multiply for the next `tokens` tokens.
    pub(super) fn add(
        &mut self,
        layer: usize,
        linears: Range<usize>,
        x: &[f32],
        tokens: usize,
    ) -> Result<()> {
        let width = x.len() / tokens;
        let input = self.inputs.entry((layer, linears.start)).or_insert_with(|| Input {
            linears: LINEARS[linears].iter().map(|part| format!("model.layers.{layer}.{part}")).collect(),
            width,
            statistics: Statistics::default(),
            sample: Vec::with_capacity(self.sampled * width),
        });
        if input.statistics.add(x).is_err() {
            return Err(Error::NotFinite { what: format!("the input of {}", input.linears[0]) });
        }
        for (position, x) in (self.done..).zip(x.chunks_exact(width)) {
            if is_sampled(position, self.all, self.sampled) {
                input.sample.extend_from_slice(x);
            }
        }
        Ok(())
    }

    /// Goes on behind the next `tokens` tokens.
    pub(super) fn advance(&mut self, tokens: usize) {
        self.done += tokens;
    }

    /// What a linear multiplied for the tokens of the sample, and the place of that among all inputs.
    pub(super) fn sample(&self, linear: &str) -> Option<(usize, &[f32])> {
        let mut inputs = self.inputs.values().enumerate();
        let (index, input) = inputs.find(|(_, input)| input.linears.iter().any(|name| name == linear))?;
        Some((index, &input.sample))
    }

    /// All inputs, in the order of the model.
    pub(super) fn into_inputs(self, pool: &ThreadPool) -> Result<Vec<LinearInput>> {
        let finish = |input: Input| {
            let int8 = int8_error(pool, &input.sample, input.width)?;
            Ok(LinearInput { linears: input.linears, statistics: input.statistics, int8 })
        };
        self.inputs.into_values().map(finish).collect()
    }
}

/// Whether a token is the last of one of `sampled` parts of all, which are as long as each other: never the first token
/// of a longer text, which is unlike all others.
fn is_sampled(position: usize, all: usize, sampled: usize) -> bool {
    (position + 1) * sampled / all > position * sampled / all
}

fn int8_error(pool: &ThreadPool, x: &[f32], width: usize) -> Result<ErrorMetrics> {
    let (codes, scales) = quantize_activations_with(pool, x, width, &ActivationOptions::default())?;
    let mut meter = ErrorMeter::default();
    for ((x, codes), scale) in x.chunks_exact(width).zip(codes.chunks_exact(width)).zip(scales) {
        let rounded: Vec<f32> = codes.iter().map(|code| f32::from(*code) / scale).collect();
        meter.add(x, &rounded);
    }
    Ok(meter.metrics())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(all: usize, most: usize) -> Vec<usize> {
        (0..all).filter(|position| is_sampled(*position, all, most.min(all))).collect()
    }

    #[test]
    fn a_sample_is_spread_over_the_text() {
        assert_eq!(sampled(8, 2), [3, 7]);
        assert_eq!(sampled(3, 64), [0, 1, 2]);
        for all in [1, 63, 64, 65, 100, 1024] {
            assert_eq!(sampled(all, 64).len(), all.min(64));
        }
    }

    #[test]
    fn inputs_are_kept_by_token_whatever_the_pieces() {
        let x: Vec<f32> = (0..10 * 3).map(|i| i as f32 - 7.0).collect();
        let run = |pieces: &[usize]| {
            let mut calibration = Calibration::new(10, 5);
            let mut rest = &x[..];
            for tokens in pieces {
                let (piece, behind) = rest.split_at(tokens * 3);
                calibration.add(1, 4..6, piece, *tokens).unwrap();
                calibration.advance(*tokens);
                rest = behind;
            }
            calibration
        };
        let calibration = run(&[4, 1, 5]);
        let expected: Vec<f32> = [1, 3, 5, 7, 9].iter().flat_map(|t| x[t * 3..t * 3 + 3].to_vec()).collect();
        assert_eq!(calibration.sample("model.layers.1.mlp.up_proj"), Some((0, &expected[..])));
        assert_eq!(run(&[10]).sample("model.layers.1.mlp.gate_proj"), Some((0, &expected[..])));
        assert!(calibration.sample("model.layers.0.mlp.up_proj").is_none());
        let inputs = calibration.into_inputs(&ThreadPool::new(2).unwrap()).unwrap();
        assert_eq!(inputs[0].linears, ["model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj"]);
        assert_eq!((inputs[0].statistics.count(), inputs[0].statistics.absmax()), (30, 22.0));
        // Codes are up to half a step of 22 / 127 from what they stand for.
        assert!(inputs[0].int8.max_abs <= 22.0 / 127.0 / 2.0 && inputs[0].int8.sqnr_db > 40.0);
    }

    #[test]
    fn what_is_not_finite_is_named() {
        let mut calibration = Calibration::new(1, 1);
        let error = calibration.add(0, 6..7, &[1.0, f32::NAN], 1).unwrap_err().to_string();
        assert!(error.contains("the input of model.layers.0.mlp.down_proj is not finite"), "{error}");
    }
}
