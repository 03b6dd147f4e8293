//! `bitnet convert`.

use std::ops::ControlFlow;
use std::path::Path;

use bitnet_core::ThreadPool;
use bitnet_inference::convert::{self, ConvertOptions, Converted, Target};
use bitnet_inference::{Checkpoint, Error};

use crate::args::ConvertArgs;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{self, grouped};

/// Writes a model in another form.
pub(crate) fn convert(args: ConvertArgs) -> Result<(), Failure> {
    let options = ConvertOptions {
        to: args.to.unwrap_or_else(|| Target::of_path(&args.destination)),
        head: args.head,
        shard_bytes: args.shard_size,
        lossy: args.lossy,
        bf16_scales: false,
    };
    let pool = ThreadPool::new(args.threads.unwrap_or_else(ThreadPool::default_threads))?;
    let (source, gguf) = (args.source, args.gguf.options);
    let checkpoint = interrupt::or_done(move || Ok(Checkpoint::find(Some(&source), &gguf)?))?;
    let converted = write(&checkpoint, &args.destination, &options, &pool)?;
    output::table(&rows(&converted, &args.destination))
}

/// Writes a model under a progress bar.
pub(crate) fn write(
    checkpoint: &Checkpoint,
    path: &Path,
    options: &ConvertOptions,
    pool: &ThreadPool,
) -> Result<Converted, Failure> {
    let bar = output::progress_bar(0, "{bar:40} {bytes}/{total_bytes}, {eta} left");
    let converted = convert::convert(checkpoint, path, options, pool, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        if interrupt::is_pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    converted.map_err(|error| match error {
        Error::Stopped { .. } => Failure::Interrupted,
        error => error.into(),
    })
}

/// What was written.
pub(crate) fn rows(converted: &Converted, path: &Path) -> Vec<(&'static str, String)> {
    let Converted { to, embedding, tensors, ternary, files, tensor_bytes, lost } = converted;
    let in_files = if *files == 1 { String::new() } else { format!(", in {files} files") };
    let mut rows = vec![
        ("written", path.display().to_string()),
        ("form", to.to_string()),
        ("tensors", format!("{}, {ternary} of them ternary{in_files}", grouped(*tensors))),
        ("embedding", (*embedding).to_owned()),
        ("bytes", grouped(*tensor_bytes)),
    ];
    if lost.is_empty() {
        rows.push(("lost", "nothing".to_owned()));
    }
    rows.extend(lost.iter().map(|line| ("lost", line.clone())));
    rows
}
