//! How tokens are chosen.

use std::collections::BTreeMap;

use super::{Constraint, ConstraintSpec};
use crate::{Error, Result};

/// How the next token is chosen. The default is greedy.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Divides the logits; 0, without a range, takes the largest.
    pub temperature: f32,
    /// The temperature lies this much below to this much above `temperature`, by how sure the model is; 0 does nothing.
    pub dynatemp_range: f32,
    /// How the temperature follows the entropy; below 1 it rises sooner.
    pub dynatemp_exponent: f32,
    /// Applies the temperature behind all filters, as llama.cpp does, instead of in front of typical-p.
    pub temperature_last: bool,
    /// Keeps the `top_k` largest logits; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest tokens whose probabilities sum to at least `top_p`; 1 keeps all.
    pub top_p: f32,
    /// Drops tokens less probable than `min_p` times the most probable one; 0 keeps all.
    pub min_p: f32,
    /// Keeps the tokens whose information is closest to what is expected, up to this probability; 1 keeps all.
    pub typical_p: f32,
    /// Drops logits more than this many standard deviations below the largest; 0 keeps all.
    pub top_n_sigma: f32,
    /// How often all but the least probable of the tokens above `xtc_threshold` are dropped; 0 never does.
    pub xtc_probability: f32,
    /// Probability from which a token is a top choice to XTC.
    pub xtc_threshold: f32,
    /// Replaces top-n-sigma, top-k, typical-p, top-p, min-p and XTC.
    pub mirostat: Option<MirostatOptions>,
    /// Divides positive logits of tokens seen in prompt or text, multiplies negative ones; 1 does nothing.
    pub repetition_penalty: f32,
    /// Taken off the logits of tokens seen in prompt or text.
    pub presence_penalty: f32,
    /// Taken off the logit of a token for each time it was seen in prompt or text.
    pub frequency_penalty: f32,
    /// How many of the last tokens the three penalties look at; `None` for all of prompt and text.
    pub repeat_last_n: Option<usize>,
    /// Penalties for repeating a sequence.
    pub dry: DryOptions,
    /// Added to the logits of tokens; minus infinity bans one.
    pub logit_bias: BTreeMap<u32, f32>,
    /// What the text must match.
    pub constraint: Option<ConstraintSpec>,
    /// Reports the log-probability of each token, and of this many of the most probable ones.
    pub logprobs: Option<usize>,
    /// Seed of the random numbers; `None` takes one from the operating system.
    pub seed: Option<u64>,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            temperature_last: false,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            top_n_sigma: 0.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            mirostat: None,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repeat_last_n: None,
            dry: DryOptions::default(),
            logit_bias: BTreeMap::new(),
            constraint: None,
            logprobs: None,
            seed: None,
        }
    }
}

/// Penalties for repeating a sequence, `multiplier * base^(length - allowed_length)` each. The default is none.
///
/// Source: DRY, <https://github.com/oobabooga/text-generation-webui/pull/5677>.
#[derive(Debug, Clone, PartialEq)]
pub struct DryOptions {
    /// Size of the smallest penalty; 0 does nothing.
    pub multiplier: f32,
    /// Grows the penalty with each token of the sequence.
    pub base: f32,
    /// Length of a repeated sequence, in tokens, from which going on with it is penalised.
    pub allowed_length: usize,
    /// How many of the last tokens are looked at; `None` for all of prompt and text.
    pub penalty_last_n: Option<usize>,
    /// Texts that no sequence goes across.
    pub sequence_breakers: Vec<String>,
}

impl Default for DryOptions {
    fn default() -> Self {
        let sequence_breakers = ["\n", ":", "\"", "*"].map(str::to_owned).into();
        Self { multiplier: 0.0, base: 1.75, allowed_length: 2, penalty_last_n: None, sequence_breakers }
    }
}

/// Mirostat 2: keeps the information of each token near `tau`.
///
/// Source: Basu et al. 2021, <https://arxiv.org/abs/2007.14966>.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MirostatOptions {
    /// Aim, in bits per token.
    pub tau: f32,
    /// How fast it is learned.
    pub eta: f32,
}

impl Default for MirostatOptions {
    fn default() -> Self {
        Self { tau: 5.0, eta: 0.1 }
    }
}

impl SamplingOptions {
    /// Whether the largest logit wins.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0 && self.dynatemp_range == 0.0
    }

    /// Errors: [`Error::InvalidOption`] for a value out of its range, [`Error::Constraint`] for a constraint that
    /// cannot be read.
    pub fn check(&self) -> Result<()> {
        self.check_numbers()?;
        self.constraint.as_ref().map_or(Ok(()), Constraint::check)
    }

    pub(super) fn check_numbers(&self) -> Result<()> {
        self.check_filters()?;
        self.check_penalties()?;
        let Some(MirostatOptions { tau, eta }) = self.mirostat else { return Ok(()) };
        at_least_0("mirostat_tau", tau)?;
        at_least_0("mirostat_eta", eta)?;
        let with = self.filters().filter(|(_, is_on)| *is_on).map(|(name, _)| name).next();
        let expected = "used without top_k, top_p, min_p, typical_p, top_n_sigma and xtc_probability";
        let got = |name: &str| format!("with {name}");
        with.map_or(Ok(()), |name| Err(Error::InvalidOption { name: "mirostat", expected, got: got(name) }))
    }

    /// What drops tokens, and whether it is on.
    fn filters(&self) -> impl Iterator<Item = (&'static str, bool)> {
        [
            ("top_k", self.top_k > 0),
            ("top_p", self.top_p < 1.0),
            ("min_p", self.min_p > 0.0),
            ("typical_p", self.typical_p < 1.0),
            ("top_n_sigma", self.top_n_sigma > 0.0),
            ("xtc_probability", self.xtc_probability > 0.0),
        ]
        .into_iter()
    }

    fn check_filters(&self) -> Result<()> {
        at_least_0("temperature", self.temperature)?;
        at_least_0("dynatemp_range", self.dynatemp_range)?;
        at_least_0("dynatemp_exponent", self.dynatemp_exponent)?;
        at_least_0("top_n_sigma", self.top_n_sigma)?;
        let share = |name, value| check(name, value > 0.0 && value <= 1.0, "above 0 and at most 1", value);
        share("top_p", self.top_p)?;
        share("typical_p", self.typical_p)?;
        let between = |name, value| check(name, (0.0..=1.0).contains(&value), "between 0 and 1", value);
        between("min_p", self.min_p)?;
        between("xtc_probability", self.xtc_probability)?;
        between("xtc_threshold", self.xtc_threshold)
    }

    fn check_penalties(&self) -> Result<()> {
        let above_0 = |name, value: f32| {
            check(name, value.is_finite() && value > 0.0, "a finite number above 0", value)
        };
        let finite = |name, value: f32| check(name, value.is_finite(), "a finite number", value);
        above_0("repetition_penalty", self.repetition_penalty)?;
        finite("presence_penalty", self.presence_penalty)?;
        finite("frequency_penalty", self.frequency_penalty)?;
        at_least_0("dry_multiplier", self.dry.multiplier)?;
        let expected = "a finite number of at least 1";
        check("dry_base", self.dry.base.is_finite() && self.dry.base >= 1.0, expected, self.dry.base)?;
        if self.dry.allowed_length == 0 {
            let (name, expected, got) = ("dry_allowed_length", "at least 1", "0".to_owned());
            return Err(Error::InvalidOption { name, expected, got });
        }
        if self.dry.sequence_breakers.iter().any(String::is_empty) {
            let (name, expected, got) =
                ("dry_sequence_breakers", "texts that are not empty", "\"\"".to_owned());
            return Err(Error::InvalidOption { name, expected, got });
        }
        let is_bias = |bias: &f32| bias.is_finite() || *bias == f32::NEG_INFINITY;
        match self.logit_bias.values().find(|bias| !is_bias(bias)) {
            Some(&bias) => check("logit_bias", false, "finite, or minus infinity", bias),
            None => Ok(()),
        }
    }
}

fn at_least_0(name: &'static str, value: f32) -> Result<()> {
    check(name, value.is_finite() && value >= 0.0, "a finite number of at least 0", value)
}

fn check(name: &'static str, holds: bool, expected: &'static str, got: f32) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::InvalidOption { name, expected, got: got.to_string() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_errors_that_name_the_option() {
        type Change = fn(&mut SamplingOptions);
        let bad: [(&str, Change); 19] = [
            ("temperature", |o| o.temperature = -1.0),
            ("temperature", |o| o.temperature = f32::NAN),
            ("dynatemp_range", |o| o.dynatemp_range = f32::INFINITY),
            ("dynatemp_exponent", |o| o.dynatemp_exponent = -0.5),
            ("top_p", |o| o.top_p = 0.0),
            ("top_p", |o| o.top_p = 1.5),
            ("typical_p", |o| o.typical_p = 0.0),
            ("min_p", |o| o.min_p = -0.1),
            ("top_n_sigma", |o| o.top_n_sigma = -1.0),
            ("xtc_probability", |o| o.xtc_probability = 1.1),
            ("xtc_threshold", |o| o.xtc_threshold = f32::NAN),
            ("repetition_penalty", |o| o.repetition_penalty = 0.0),
            ("presence_penalty", |o| o.presence_penalty = f32::INFINITY),
            ("dry_multiplier", |o| o.dry.multiplier = -1.0),
            ("dry_base", |o| o.dry.base = 0.5),
            ("dry_allowed_length", |o| o.dry.allowed_length = 0),
            ("dry_sequence_breakers", |o| o.dry.sequence_breakers.push(String::new())),
            ("logit_bias", |o| o.logit_bias = BTreeMap::from([(3, f32::INFINITY)])),
            ("mirostat", |o| (o.mirostat, o.top_k) = (Some(MirostatOptions::default()), 4)),
        ];
        for (expected, change) in bad {
            let mut options = SamplingOptions::default();
            change(&mut options);
            match options.check() {
                Err(Error::InvalidOption { name, .. }) => assert_eq!(name, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }
}
