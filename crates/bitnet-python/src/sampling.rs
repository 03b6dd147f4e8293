//! How tokens are chosen, from the keyword arguments of a call.

use bitnet_inference::SamplingOptions;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::Failure;
use crate::model::count;

/// Sampling options by their names.
///
/// Raises OptionError for values that cannot be, TypeError for a name that is not known and for another type.
pub(crate) fn sampling(options: Option<&Bound<'_, PyDict>>) -> Result<SamplingOptions, Failure> {
    let mut sampling = SamplingOptions::default();
    for (name, value) in options.into_iter().flatten() {
        let name: String = name.extract()?;
        set(&mut sampling, &name, &value).map_err(|failure| of_argument(value.py(), &name, failure))?;
    }
    Ok(sampling)
}

/// Says which argument had the wrong type, as Python does.
fn of_argument(py: Python<'_>, name: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Python(error) if error.is_instance_of::<PyTypeError>(py) => {
            PyTypeError::new_err(format!("argument '{name}': {}", error.value(py))).into()
        }
        other => other,
    }
}

fn set(to: &mut SamplingOptions, name: &str, value: &Bound<'_, PyAny>) -> Result<(), Failure> {
    match name {
        "temperature" => to.temperature = value.extract()?,
        "top_k" => to.top_k = count("top_k", value.extract()?)?,
        "top_p" => to.top_p = value.extract()?,
        "min_p" => to.min_p = value.extract()?,
        "repetition_penalty" => to.repetition_penalty = value.extract()?,
        "seed" => to.seed = value.extract()?,
        _ => return Err(PyTypeError::new_err("there is no such option").into()),
    }
    Ok(())
}
