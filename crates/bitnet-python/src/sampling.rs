//! How tokens are chosen, from the keyword arguments of a call.

use std::collections::BTreeMap;

use bitnet_inference::{ConstraintSpec, DryOptions, Error, MirostatOptions, SamplingOptions};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::Failure;
use crate::model::{count, several};

/// What is made of several arguments together, and the rest.
#[derive(Default)]
pub(crate) struct SamplingArguments {
    sampling: SamplingOptions,
    mirostat: i64,
    mirostat_options: MirostatOptions,
    regex: Option<String>,
    json_schema: Option<String>,
}

impl SamplingArguments {
    /// Sets one argument by its name.
    ///
    /// Raises OptionError for values that cannot be, TypeError for a name that is not known and for another type.
    pub(crate) fn set(&mut self, name: &str, value: &Bound<'_, PyAny>) -> Result<(), Failure> {
        let to = &mut self.sampling;
        match name {
            "temperature" => to.temperature = value.extract()?,
            "dynatemp_range" => to.dynatemp_range = value.extract()?,
            "dynatemp_exponent" => to.dynatemp_exponent = value.extract()?,
            "temperature_last" => to.temperature_last = value.extract()?,
            "top_k" => to.top_k = count("top_k", value.extract()?)?,
            "top_p" => to.top_p = value.extract()?,
            "min_p" => to.min_p = value.extract()?,
            "typical_p" => to.typical_p = value.extract()?,
            "top_n_sigma" => to.top_n_sigma = value.extract()?,
            "xtc_probability" => to.xtc_probability = value.extract()?,
            "xtc_threshold" => to.xtc_threshold = value.extract()?,
            "mirostat" => self.mirostat = value.extract()?,
            "mirostat_tau" => self.mirostat_options.tau = value.extract()?,
            "mirostat_eta" => self.mirostat_options.eta = value.extract()?,
            "repetition_penalty" => to.repetition_penalty = value.extract()?,
            "presence_penalty" => to.presence_penalty = value.extract()?,
            "frequency_penalty" => to.frequency_penalty = value.extract()?,
            "repeat_last_n" => to.repeat_last_n = number("repeat_last_n", value)?,
            "logit_bias" => to.logit_bias = biases(value)?,
            "regex" => self.regex = value.extract()?,
            "json_schema" => self.json_schema = schema(value)?,
            "logprobs" => to.logprobs = number("logprobs", value)?,
            "seed" => to.seed = value.extract()?,
            _ => return set_dry(&mut to.dry, name, value),
        }
        Ok(())
    }

    /// What all of them say together. Raises OptionError where they do not go together.
    pub(crate) fn options(self) -> Result<SamplingOptions, Failure> {
        let mirostat = match self.mirostat {
            0 => None,
            2 => Some(self.mirostat_options),
            other => {
                let (expected, got) = ("0 or 2", other.to_string());
                return Err(Error::InvalidOption { name: "mirostat", expected, got }.into());
            }
        };
        let constraint = match (self.regex, self.json_schema) {
            (Some(_), Some(_)) => {
                let (expected, got) = ("used without json_schema", "with it".to_owned());
                return Err(Error::InvalidOption { name: "regex", expected, got }.into());
            }
            (Some(regex), None) => Some(ConstraintSpec::Regex(regex)),
            (None, schema) => schema.map(ConstraintSpec::JsonSchema),
        };
        Ok(SamplingOptions { mirostat, constraint, ..self.sampling })
    }
}

fn set_dry(to: &mut DryOptions, name: &str, value: &Bound<'_, PyAny>) -> Result<(), Failure> {
    match name {
        "dry_multiplier" => to.multiplier = value.extract()?,
        "dry_base" => to.base = value.extract()?,
        "dry_allowed_length" => to.allowed_length = count("dry_allowed_length", value.extract()?)?,
        "dry_penalty_last_n" => to.penalty_last_n = number("dry_penalty_last_n", value)?,
        "dry_sequence_breakers" => to.sequence_breakers = several("dry_sequence_breakers", value)?,
        _ => return Err(PyTypeError::new_err("there is no such option").into()),
    }
    Ok(())
}

/// A number of things, or None.
pub(crate) fn number(name: &'static str, value: &Bound<'_, PyAny>) -> Result<Option<usize>, Failure> {
    value.extract::<Option<i64>>()?.map(|value| count(name, value)).transpose()
}

/// Biases by token id, of a mapping or None.
fn biases(value: &Bound<'_, PyAny>) -> Result<BTreeMap<u32, f32>, Failure> {
    if value.is_none() {
        return Ok(BTreeMap::new());
    }
    let pairs = value.call_method0("items")?;
    Ok(pairs.try_iter()?.map(|pair| pair?.extract::<(u32, f32)>()).collect::<PyResult<_>>()?)
}

/// A JSON schema, as text or as what json.dumps turns into text.
fn schema(value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if value.is_none() || value.is_instance_of::<PyString>() {
        return value.extract();
    }
    value.py().import("json")?.call_method1("dumps", (value,))?.extract().map(Some)
}
