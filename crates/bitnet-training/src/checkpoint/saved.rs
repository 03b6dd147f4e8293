//! One checkpoint on the disk.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitnet_core::{Buffer, Tensor};
use bitnet_inference::checkpoint::{map_file, safetensors as reader};
use bitnet_inference::convert::safetensors as writer;
use bitnet_inference::{atomic_file, atomic_folder};
use serde::{Deserialize, Serialize};

use super::state::TrainingState;
use super::tensor::StateTensor;
use crate::hash::sha256;
use crate::mapped::mapped;
use crate::{Error, Result};

const TENSORS: &str = "tensors.safetensors";
const STATE: &str = "state.json";

/// To be counted up when files have another form.
const VERSION: u32 = 1;

/// A checkpoint that was read, and is as it was written.
#[derive(Debug)]
pub struct SavedCheckpoint {
    /// Its folder.
    pub path: PathBuf,
    /// Where the run was.
    pub state: TrainingState,
    /// Its tensors by name, memory-mapped.
    pub tensors: BTreeMap<String, Tensor>,
}

/// The content of [`STATE`].
#[derive(Serialize, Deserialize)]
struct Stored<S> {
    version: u32,
    /// Of the tensors' file.
    sha256: String,
    state: S,
}

impl SavedCheckpoint {
    /// Writes a checkpoint, whole or not at all; `path` must be free.
    pub(super) fn write(path: &Path, state: &TrainingState, tensors: &[StateTensor<'_>]) -> Result<()> {
        // Not the name that the folder has in the meantime.
        let named = |error| match error {
            bitnet_inference::Error::Io { source, .. } => bitnet_inference::Error::io(path, source),
            other => other,
        };
        let specs: Vec<_> = tensors.iter().map(StateTensor::spec).collect();
        let written = atomic_folder::write(path, |folder| {
            let file = folder.join(TENSORS);
            writer::write_file(&file, &specs, |index| Ok(Cow::Borrowed(tensors[index].bytes())))?;
            let bytes = map_file(&file)?.unwrap_or_else(|| Buffer::from(Vec::new()));
            let stored = Stored { version: VERSION, sha256: sha256(&bytes), state };
            atomic_file::write(&folder.join(STATE), |file| {
                serde_json::to_writer_pretty(file, &stored)
                    .map_err(|error| bitnet_inference::Error::io(path, error.into()))
            })
        });
        Ok(written.map_err(named)?)
    }

    /// Reads a checkpoint.
    ///
    /// Errors: [`Error::Checkpoint`] for one that is not what was written; that of the system where it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let Stored { sha256: expected, state, .. } = stored(path)?;
        let file = path.join(TENSORS);
        let bytes = mapped(&file)?;
        if sha256(&bytes) != expected {
            return Err(Error::checkpoint(file, "is damaged: its SHA-256 is another"));
        }
        Ok(Self { path: path.to_owned(), state, tensors: reader::read(&file, &bytes)? })
    }

    /// The state alone, of a checkpoint whose tensors may be damaged.
    pub(super) fn read_state(path: &Path) -> Result<TrainingState> {
        Ok(stored(path)?.state)
    }
}

fn stored(path: &Path) -> Result<Stored<TrainingState>> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let file = path.join(STATE);
    let bytes = mapped(&file)?;
    let damaged = |error: serde_json::Error| Error::checkpoint(&file, format!("is damaged: {error}"));
    let Version { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if version != VERSION {
        let reason = format!("is of version {version}; this program reads version {VERSION}");
        return Err(Error::checkpoint(file, reason));
    }
    serde_json::from_slice(&bytes).map_err(damaged)
}
