//! From what a user types to a checkpoint: nothing, a folder, a file, or a hub id.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backend::OnDemandBackend;
use crate::checkpoint::GgufOptions;
use crate::{Checkpoint, Error, LoadOptions, LoadedModel, Result};

impl LoadedModel {
    /// Loads the model a user names: the embedded one for `None`, a folder or a GGUF file where there is one, else a
    /// hub id.
    ///
    /// Errors: [`Error::ModelNotFound`] for a path that is not there; those of [`Self::open`]; [`Error::Hub`].
    pub fn load(model: Option<&str>, options: &LoadOptions) -> Result<Arc<Self>> {
        Self::from_checkpoint(&Checkpoint::find(model, &options.gguf)?, options)
    }

    /// As [`Self::load`], for engines that run the model on a backend of their own: it is made ready for the CPU, whatever the
    /// device of `options`, when that first runs it.
    pub fn load_on_demand(model: Option<&str>, options: &LoadOptions) -> Result<Arc<Self>> {
        Self::from_checkpoint_on(&Checkpoint::find(model, &options.gguf)?, options, |model, pool| {
            Ok(Arc::new(OnDemandBackend::cpu(model, pool, options.cpu)))
        })
    }
}

impl Checkpoint {
    /// Opens the checkpoint a user names: the embedded one for `None`, a folder or a GGUF file where there is one, else a
    /// hub id. What a GGUF file leaves open is decided as `gguf` says.
    ///
    /// Errors: [`Error::ModelNotFound`] for a path that is not there; those of [`Self::open_with`]; [`Error::Hub`].
    pub fn find(model: Option<&str>, gguf: &GgufOptions) -> Result<Self> {
        model.map_or_else(Self::embedded, |model| Self::open_with(&locate(model)?, gguf))
    }
}

/// The folder or file of a model; a hub id is downloaded first.
fn locate(model: &str) -> Result<PathBuf> {
    let path = Path::new(model);
    if path.exists() {
        return Ok(path.to_owned());
    }
    #[cfg(feature = "hub")]
    if crate::hub::is_hub_id(model) {
        return crate::hub::download(model, crate::hub::Progress::Bar).map_err(|error| match error {
            // More likely a mistyped path, which looks like a hub id.
            Error::Hub { id, reason } if path.parent().is_some_and(Path::is_dir) => {
                Error::Hub { id, reason: format!("{reason}; nor is there such a file or folder") }
            }
            error => error,
        });
    }
    Err(Error::ModelNotFound { path: path.to_owned() })
}
