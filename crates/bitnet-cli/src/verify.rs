//! `bitnet verify`.

use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_inference::verify::{self, Status, Verification};
use bitnet_inference::{Checkpoint, GgufOptions};

use crate::args::VerifyArgs;
use crate::failure::Failure;
use crate::interrupt;
use crate::output;

/// Looks for what is wrong with a model.
pub(crate) fn verify(args: VerifyArgs) -> Result<(), Failure> {
    let VerifyArgs { model, against, gguf, threads, json } = args;
    let found = interrupt::or_done(move || {
        let pool = Arc::new(ThreadPool::new(threads.unwrap_or_else(ThreadPool::default_threads))?);
        let checkpoint = Checkpoint::find(model.as_deref(), &gguf.options)?;
        let find = |model: String| Checkpoint::find(Some(&model), &GgufOptions::default());
        let against = against.map(find).transpose()?;
        Ok(verify::verify(&checkpoint, against.as_ref(), &pool)?)
    })?;
    if json {
        output::json(&found)?;
    } else {
        output::text(&lines(&found))?;
    }
    match found.checks.iter().filter(|check| check.status == Status::Fail).count() {
        0 => Ok(()),
        1 => Err(Failure::Other("1 check failed".to_owned())),
        failed => Err(Failure::Other(format!("{failed} checks failed"))),
    }
}

/// A line for each check.
fn lines(found: &Verification) -> String {
    let width = found.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let line = |check: &verify::Check| {
        let status = check.status.name();
        format!("{status:7}  {:width$}  {}\n", check.name, check.fact)
    };
    found.checks.iter().map(line).collect()
}
