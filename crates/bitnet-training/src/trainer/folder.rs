//! The folder of a run.

use std::path::{Path, PathBuf};

use crate::checkpoint::{CheckpointStore, has_any};
use crate::{Error, Result};

/// The folder of a run, which no other run can take.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    pub(super) store: CheckpointStore,
}

const CHECKPOINTS: &str = "checkpoints";
const METRICS: &str = "metrics.jsonl";
const SAMPLES: &str = "samples.jsonl";
const MODEL: &str = "model";
const ADAPTER: &str = "adapter";
const SVG: &str = "loss.svg";
const PNG: &str = "loss.png";

impl RunFolder {
    /// A folder for a new run, made where it is not there. `keep` is [`crate::trainer::TrainOptions::keep`].
    ///
    /// Errors: [`Error::Checkpoint`] where there is a run, or something else in the place of its files; those of
    /// [`CheckpointStore::open`].
    pub fn begin(path: &Path, keep: usize) -> Result<Self> {
        if has_any(&path.join(CHECKPOINTS))? {
            return Err(Error::checkpoint(path, "has a run already; resume it, or give another folder"));
        }
        if let Some(name) =
            [METRICS, SAMPLES, MODEL, ADAPTER, SVG, PNG].into_iter().find(|name| path.join(name).exists())
        {
            return Err(Error::checkpoint(path.join(name), "is there already; give another folder"));
        }
        Self::open(path, keep)
    }

    /// The folder of a run that is to go on; one in which there is none yet begins it.
    ///
    /// Errors: as [`Self::begin`].
    pub fn resume(path: &Path, keep: usize) -> Result<Self> {
        if has_any(&path.join(CHECKPOINTS))? { Self::open(path, keep) } else { Self::begin(path, keep) }
    }

    fn open(path: &Path, keep: usize) -> Result<Self> {
        Ok(Self { path: path.to_owned(), store: CheckpointStore::open(&path.join(CHECKPOINTS), keep)? })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the tokens of its data are.
    pub fn tokens(&self) -> PathBuf {
        self.path.join("tokens")
    }

    /// The metrics of its steps.
    pub fn metrics(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    /// What the model wrote meanwhile.
    pub fn samples(&self) -> PathBuf {
        self.path.join(SAMPLES)
    }

    /// The trained model.
    pub fn model(&self) -> PathBuf {
        self.path.join(MODEL)
    }

    /// The trained adapter, where that is what was trained.
    pub fn adapter(&self) -> PathBuf {
        self.path.join(ADAPTER)
    }

    /// Where either is until it is whole.
    pub(super) fn next_model(&self) -> PathBuf {
        self.path.join("model.new")
    }

    /// Its curve, in SVG and PNG.
    pub fn curves(&self) -> [PathBuf; 2] {
        [SVG, PNG].map(|name| self.path.join(name))
    }
}
