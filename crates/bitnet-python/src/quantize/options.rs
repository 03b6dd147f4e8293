//! Options of quantization by their Python names.

use bitnet_quant::{Clip, Granularity, Rounding, Scales};
use numpy::PyArrayDyn;
use pyo3::prelude::*;

use crate::array::{Elements, to_numpy};
use crate::error::exception;

fn option_error(message: &str) -> PyErr {
    exception("OptionError", message)
}

/// "tensor", "row" (or what rows are called here), or the columns of a group.
pub(super) fn granularity(option: &Bound<'_, PyAny>, row: &str) -> PyResult<Granularity> {
    if let Ok(cols) = option.extract::<usize>() {
        return Ok(Granularity::Group(cols));
    }
    match option.extract::<String>() {
        Ok(name) if name == "tensor" => Ok(Granularity::Tensor),
        Ok(name) if name == row => Ok(Granularity::Row),
        _ => {
            let got = option.repr()?;
            let message =
                format!("granularity is \"tensor\", \"{row}\" or the columns of a group, not {got}");
            Err(option_error(&message))
        }
    }
}

/// The Python name of a granularity: the columns of a group, or a word.
pub(super) fn granularity_name(py: Python<'_>, granularity: Granularity) -> PyResult<Bound<'_, PyAny>> {
    match granularity {
        Granularity::Tensor => Ok("tensor".into_pyobject(py)?.into_any()),
        Granularity::Row => Ok("row".into_pyobject(py)?.into_any()),
        Granularity::Group(cols) => Ok(cols.into_pyobject(py)?.into_any()),
    }
}

/// "half_even", "half_away", or "stochastic" with its seed.
pub(super) fn rounding(name: &str, seed: Option<u64>) -> PyResult<Rounding> {
    match (name, seed) {
        ("half_even", None) => Ok(Rounding::HalfEven),
        ("half_away", None) => Ok(Rounding::HalfAway),
        ("stochastic", Some(seed)) => Ok(Rounding::Stochastic { seed }),
        ("stochastic", None) => Err(option_error("rounding \"stochastic\" needs a seed")),
        ("half_even" | "half_away", Some(_)) => Err(option_error("a seed is for rounding \"stochastic\"")),
        _ => {
            Err(option_error(&format!("unknown rounding {name:?}; known: half_even, half_away, stochastic")))
        }
    }
}

/// A largest magnitude, or a percentile in 0..=100.
pub(super) fn clip(clip: Option<f32>, percentile: Option<f64>) -> PyResult<Clip> {
    match (clip, percentile) {
        (None, None) => Ok(Clip::None),
        (Some(limit), None) => Ok(Clip::Magnitude(limit)),
        (None, Some(percentile)) => Ok(Clip::Quantile(percentile / 100.0)),
        (Some(_), Some(_)) => Err(option_error("clip and percentile exclude each other")),
    }
}

/// A number, or an array of one scale per row, or one per row and group of `group` columns.
pub(super) fn scales(scale: &Bound<'_, PyAny>, cols: usize, group: Option<usize>) -> PyResult<Scales> {
    if let Ok(scale) = scale.extract::<f32>() {
        return Ok(Scales::Tensor(scale));
    }
    let values = Elements::floats("scale", scale)?;
    match values.shape[..] {
        [_] => Ok(Scales::Rows(values.values()?.to_vec())),
        [_, groups] => {
            let even = cols.checked_div(groups).filter(|_| cols.is_multiple_of(groups.max(1)));
            let Some(cols) = group.or(even) else {
                return Err(option_error("groups of different widths: say how many columns with group="));
            };
            Ok(Scales::Groups { cols, values: values.values()?.to_vec() })
        }
        _ => {
            let message = "scale is a number, one per row, or one per row and group";
            Err(exception("ShapeError", message))
        }
    }
}

/// Values of scales in the shape that says which is whose: (), [rows] or [rows, groups].
pub(super) fn shaped<T: numpy::Element>(
    py: Python<'_>,
    values: Vec<T>,
    granularity: Granularity,
    rows: usize,
) -> PyResult<Bound<'_, PyArrayDyn<T>>> {
    match granularity {
        Granularity::Tensor => to_numpy(py, values, &[]),
        Granularity::Row => to_numpy(py, values, &[rows]),
        Granularity::Group(_) => {
            let groups = values.len() / rows.max(1);
            to_numpy(py, values, &[rows, groups])
        }
    }
}
