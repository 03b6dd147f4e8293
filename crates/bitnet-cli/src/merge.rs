//! `bitnet merge`.

use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_inference::convert::{self, ConvertOptions, HfForm, Target};
use bitnet_inference::{Checkpoint, GgufOptions};

use crate::args::MergeArgs;
use crate::convert::{rows, write};
use crate::failure::Failure;
use crate::{interrupt, output};

/// Writes the mean of several models.
pub(crate) fn merge(args: MergeArgs) -> Result<(), Failure> {
    let MergeArgs { models, weights, output, threads } = args;
    let pool = Arc::new(ThreadPool::new(threads.unwrap_or_else(ThreadPool::default_threads))?);
    let threads = Arc::clone(&pool);
    let merged = interrupt::or_done(move || {
        let find = |model: &String| Checkpoint::find(Some(model), &GgufOptions::default());
        let checkpoints = models.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        Ok(convert::merge(&checkpoints, weights.as_deref(), &threads)?)
    })?;
    let converted = write(&merged, &output, &ConvertOptions::new(Target::Hf(HfForm::Master)), &pool)?;
    output::table(&rows(&converted, &output))
}
