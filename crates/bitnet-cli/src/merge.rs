//! `bitnet merge`.

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
    let pool = ThreadPool::new(threads.unwrap_or_else(ThreadPool::default_threads))?;
    let find = move || {
        let find = |model: &String| Checkpoint::find(Some(model), &GgufOptions::default());
        Ok(models.iter().map(find).collect::<Result<Vec<_>, _>>()?)
    };
    let merged = convert::merge(&interrupt::or_done(find)?, weights.as_deref(), &pool)?;
    let converted = write(&merged, &output, &ConvertOptions::new(Target::Hf(HfForm::Master)), &pool)?;
    output::table(&rows(&converted, &output))
}
