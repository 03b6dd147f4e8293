//! The checkpoints of a run.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use bitnet_inference::atomic_file::is_partial;
use bitnet_inference::atomic_folder;

use super::fingerprint::Fingerprint;
use super::saved::SavedCheckpoint;
use super::state::TrainingState;
use super::tensor::StateTensor;
use crate::{Error, Result};

const LOCK: &str = "lock";
const PREFIX: &str = "step-";

/// A folder of checkpoints that one run writes.
#[derive(Debug)]
pub struct CheckpointStore {
    folder: PathBuf,
    keep: usize,
    /// Held for as long as the store is.
    _lock: File,
}

/// What a search for a checkpoint has found.
#[derive(Debug, Default)]
pub struct Found {
    /// The last one that is sound.
    pub checkpoint: Option<SavedCheckpoint>,
    /// What is wrong with those behind it.
    pub damaged: Vec<Error>,
}

/// Whether a folder has checkpoints, sound or not.
///
/// Errors: as [`latest`].
pub fn has_any(folder: &Path) -> Result<bool> {
    Ok(!list(folder)?.is_empty())
}

/// The last sound checkpoint in a folder of them. Nothing is changed there; a run may be writing it.
///
/// Errors: that of the system where the folder cannot be read. A folder that is not there has no checkpoint.
pub fn latest(folder: &Path) -> Result<Found> {
    let mut damaged = Vec::new();
    for (_, path) in list(folder)?.into_iter().rev() {
        match SavedCheckpoint::read(&path) {
            Ok(checkpoint) => return Ok(Found { checkpoint: Some(checkpoint), damaged }),
            Err(error) => damaged.push(error),
        }
    }
    Ok(Found { checkpoint: None, damaged })
}

impl CheckpointStore {
    /// Takes a folder for a run, and makes it where it is not there. What a killed run left half written is removed. Of
    /// the checkpoints the last `keep` are kept, at least one, and the best.
    ///
    /// Errors: [`Error::Checkpoint`] where another run has the folder; that of the system.
    pub fn open(folder: &Path, keep: usize) -> Result<Self> {
        let io = |error| Error::io(folder, error);
        fs::create_dir_all(folder).map_err(io)?;
        let lock =
            File::options().write(true).create(true).truncate(false).open(folder.join(LOCK)).map_err(io)?;
        // Not every file system has locks.
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            return Err(Error::checkpoint(folder, "another run is writing its checkpoints here"));
        }
        for entry in fs::read_dir(folder).map_err(io)? {
            let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
            if name.starts_with(PREFIX) && is_partial(&name) {
                let left = folder.join(name);
                fs::remove_dir_all(&left).map_err(|error| Error::io(&left, error))?;
            }
        }
        Ok(Self { folder: folder.to_owned(), keep: keep.max(1), _lock: lock })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a checkpoint, and then removes those that are kept no longer. Where there is one of this step, nothing is
    /// done: it is the same.
    ///
    /// Errors: that of the system, for a full disk or a folder that cannot be written; those before stay as they are.
    pub fn save(&self, state: &TrainingState, tensors: &[StateTensor<'_>]) -> Result<PathBuf> {
        let path = self.folder.join(format!("{PREFIX}{:08}", state.step));
        if !path.exists() {
            SavedCheckpoint::write(&path, state, tensors)?;
            self.prune()?;
        }
        Ok(path)
    }

    /// The last sound checkpoint, for a run to go on from; those behind it are removed, since that run will write them
    /// anew. `None` where there is none at all.
    ///
    /// Errors: [`Error::Mismatch`] names all in which the run differs, and nothing is removed then; the first damage when
    /// no checkpoint is sound.
    pub fn resume(&self, fingerprint: &Fingerprint) -> Result<Option<SavedCheckpoint>> {
        let Found { checkpoint, damaged } = latest(&self.folder)?;
        let Some(checkpoint) = checkpoint else { return damaged.into_iter().next().map_or(Ok(None), Err) };
        let differences = fingerprint.differences(&checkpoint.state.fingerprint);
        if !differences.is_empty() {
            return Err(Error::Mismatch { path: checkpoint.path, differences });
        }
        self.discard_after(checkpoint.state.step)?;
        Ok(Some(checkpoint))
    }

    /// Removes the checkpoints behind a step, which a run has gone back to.
    ///
    /// Errors: that of the system.
    pub fn discard_after(&self, step: u64) -> Result<()> {
        let later = list(&self.folder)?.into_iter().filter(|(of, _)| *of > step);
        later.into_iter().try_for_each(|(_, path)| Ok(atomic_folder::remove(&path)?))
    }

    /// The checkpoint with the least loss of evaluation, the first of several.
    ///
    /// Errors: that of the system where the folder cannot be read.
    pub fn best(&self) -> Result<Option<PathBuf>> {
        let loss =
            |path: &PathBuf| SavedCheckpoint::read_state(path).ok()?.eval_loss.filter(|loss| !loss.is_nan());
        let losses = list(&self.folder)?.into_iter().filter_map(|(_, path)| Some((loss(&path)?, path)));
        Ok(losses.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, path)| path))
    }

    fn prune(&self) -> Result<()> {
        let best = self.best()?;
        let mut checkpoints = list(&self.folder)?;
        checkpoints.truncate(checkpoints.len().saturating_sub(self.keep));
        let is_old = |path: &PathBuf| Some(path) != best.as_ref();
        checkpoints
            .into_iter()
            .map(|(_, path)| path)
            .filter(is_old)
            .try_for_each(|path| Ok(atomic_folder::remove(&path)?))
    }
}

/// Steps and folders of all checkpoints, in the order of their steps.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let io = |error| Error::io(folder, error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io)?,
    };
    let mut checkpoints = Vec::new();
    for entry in entries {
        let name = entry.map_err(io)?.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        checkpoints.extend(step.map(|step| (step, folder.join(name))));
    }
    checkpoints.sort_unstable();
    Ok(checkpoints)
}
