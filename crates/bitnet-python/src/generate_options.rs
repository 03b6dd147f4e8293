//! How a text is generated, from the keyword arguments of a call.

use std::sync::Arc;

use bitnet_inference::speculation::Source;
use bitnet_inference::{Error, GenerateOptions, LoadedModel, Speculation};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::Failure;
use crate::model::{Model, count, several};
use crate::sampling::{SamplingArguments, number};

/// Options by their names: those of sampling, and what is said of the whole text.
///
/// Raises OptionError for values that cannot be, TypeError for a name that is not known and for another type.
pub(crate) fn generate_options(options: Option<&Bound<'_, PyDict>>) -> Result<GenerateOptions, Failure> {
    let mut arguments = Arguments::default();
    for (name, value) in options.into_iter().flatten() {
        let name: String = name.extract()?;
        arguments.set(&name, &value).map_err(|failure| of_argument(value.py(), &name, failure))?;
    }
    arguments.options()
}

/// Says which argument had the wrong type, as Python does.
pub(crate) fn of_argument(py: Python<'_>, name: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Python(error) if error.is_instance_of::<PyTypeError>(py) => {
            PyTypeError::new_err(format!("argument '{name}': {}", error.value(py))).into()
        }
        other => other,
    }
}

/// What is made of several arguments together, and the rest.
#[derive(Default)]
struct Arguments {
    generate: GenerateOptions,
    sampling: SamplingArguments,
    speculate: Option<Source>,
    draft: Option<Arc<LoadedModel>>,
    guesses: Option<usize>,
}

impl Arguments {
    /// Sets one argument.
    fn set(&mut self, name: &str, value: &Bound<'_, PyAny>) -> Result<(), Failure> {
        match name {
            "max_tokens" => self.generate.max_tokens = count("max_tokens", value.extract()?)?,
            "stop" => self.generate.stop = texts(value)?,
            "speculate" => {
                self.speculate = value.extract::<Option<String>>()?.map(|name| name.parse()).transpose()?;
            }
            "draft" => self.draft = draft(value)?,
            "guesses" => self.guesses = number("guesses", value)?,
            _ => return self.sampling.set(name, value),
        }
        Ok(())
    }

    fn options(self) -> Result<GenerateOptions, Failure> {
        let speculation = speculation(self.speculate, self.draft, self.guesses)?;
        Ok(GenerateOptions { sampling: self.sampling.options()?, speculation, ..self.generate })
    }
}

/// Guesses of next tokens: from the text, or from a draft model.
fn speculation(
    speculate: Option<Source>,
    draft: Option<Arc<LoadedModel>>,
    guesses: Option<usize>,
) -> Result<Option<Speculation>, Failure> {
    let invalid = |name, expected, got: &str| Error::InvalidOption { name, expected, got: got.to_owned() };
    let source = match (speculate, draft) {
        (Some(_), Some(_)) => return Err(invalid("draft", "None where speculate is given", "a model").into()),
        (None, None) if guesses.is_some() => {
            return Err(invalid("guesses", "used with speculate or draft", "alone").into());
        }
        (None, None) => return Ok(None),
        (Some(source), None) => source,
        (None, Some(draft)) => Source::Draft(draft),
    };
    Ok(Some(Speculation { source, guesses }))
}

/// A draft model, or None.
fn draft(value: &Bound<'_, PyAny>) -> PyResult<Option<Arc<LoadedModel>>> {
    if value.is_none() {
        return Ok(None);
    }
    let model = value.cast::<Model>().map_err(|_| PyTypeError::new_err("must be a Model or None"))?;
    Ok(Some(Arc::clone(model.get().loaded())))
}

/// Stop strings: one text, several, or None.
fn texts(stop: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if stop.is_none() {
        return Ok(Vec::new());
    }
    if let Ok(text) = stop.extract::<String>() {
        return Ok(vec![text]);
    }
    several("stop", stop)
}
