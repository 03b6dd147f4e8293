//! What a run begins with.

use std::path::PathBuf;

use bitnet_inference::{Checkpoint, GgufOptions};
use bitnet_training::Error;
use bitnet_training::nn::LoraOptions;
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
    /// A model: a float master, or packed.
    Model(String),
}

/// What goes with a beginning.
pub(super) struct Beside {
    /// Train adapters, and nothing else.
    pub(super) lora: Option<LoraOptions>,
    /// The model to learn from.
    pub(super) teacher: Option<String>,
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
        Ok(Self::Model(model_name(path)?))
    }

    /// The model that adapters are trained beside.
    pub(super) fn adapted(&self, beside: &Beside) -> Option<&str> {
        match self {
            Self::Model(model) if beside.lora.is_some() => Some(model),
            _ => None,
        }
    }

    /// The model, or what is trained beside it.
    pub(super) fn start(&self, beside: &Beside, seed: u64) -> bitnet_training::Result<Start> {
        let find = |model: &str| Checkpoint::find(Some(model), &GgufOptions::default());
        let start = match (self, &beside.lora, &beside.teacher) {
            (Self::Model(model), Some(lora), _) => Start::adapter(find(model)?, lora, seed)?,
            (_, Some(lora), _) => {
                let (name, expected, got) = ("lora", "None for a new model", lora.rank.to_string());
                return Err(Error::InvalidOption { name, expected, got });
            }
            (Self::Model(model), None, Some(_)) => Start::student(&find(model)?)?,
            (Self::Model(model), None, None) => Start::model(&find(model)?)?,
            (Self::Preset(preset), ..) => Start::preset(*preset, seed)?,
            (Self::Config(path), ..) => Start::config(path, seed)?,
            (Self::Fields(fields), ..) => Start::fields(fields.clone(), seed)?,
        };
        match &beside.teacher {
            Some(teacher) => start.with_teacher(&find(teacher)?),
            None => Ok(start),
        }
    }
}
