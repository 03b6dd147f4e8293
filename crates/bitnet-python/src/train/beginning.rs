//! What a run begins with.

use std::path::PathBuf;

use bitnet_inference::{Checkpoint, GgufOptions};
use bitnet_training::trainer::{Preset, Start};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::{Map, Value};

use crate::error::{Failure, exception};
use crate::model::model_name;

/// What a run begins with.
pub(super) enum Beginning {
    /// A new model of a named shape.
    Preset(Preset),
    /// A new model of a config.
    Config(PathBuf),
    /// A new model of the fields of a config.
    Fields(Map<String, Value>),
    /// A float master.
    Master(String),
}

impl Beginning {
    /// A name, a path, a hub id, or a dict.
    pub(super) fn read(object: &Bound<'_, PyAny>) -> Result<Self, Failure> {
        if object.is_instance_of::<PyDict>() {
            let json: String = object.py().import("json")?.call_method1("dumps", (object,))?.extract()?;
            let wrong = |error: serde_json::Error| exception("ConfigError", &error.to_string());
            return Ok(Self::Fields(serde_json::from_str(&json).map_err(wrong)?));
        }
        let preset = object.extract::<String>().ok().and_then(|name| name.parse().ok());
        if let Some(preset) = preset {
            return Ok(Self::Preset(preset));
        }
        let path: PathBuf = object.extract()?;
        if path.extension().is_some_and(|extension| extension == "json") {
            return Ok(Self::Config(path));
        }
        Ok(Self::Master(model_name(path)?))
    }

    /// The model.
    pub(super) fn start(&self, seed: u64) -> bitnet_training::Result<Start> {
        match self {
            Self::Preset(preset) => Start::preset(*preset, seed),
            Self::Config(path) => Start::config(path, seed),
            Self::Fields(fields) => Start::fields(fields.clone(), seed),
            Self::Master(model) => Start::master(&Checkpoint::find(Some(model), &GgufOptions::default())?),
        }
    }
}
