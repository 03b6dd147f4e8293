//! `bitnet convert`.

use bitnet_core::ThreadPool;
use bitnet_inference::Checkpoint;
use bitnet_inference::convert::{Converted, GgufTarget, to_gguf};

use crate::args::ConvertArgs;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{self, grouped};

/// Writes a model in another format.
pub(crate) fn convert(args: ConvertArgs) -> Result<(), Failure> {
    let target = GgufTarget { weights: args.to, head: args.head };
    let path = args.destination.clone();
    let done = interrupt::or_done(move || {
        let pool = ThreadPool::new(args.threads.unwrap_or_else(ThreadPool::default_threads))?;
        let checkpoint = Checkpoint::find(Some(&args.source), &args.gguf.options)?;
        Ok(to_gguf(&checkpoint, &args.destination, target, &pool)?)
    })?;
    let Converted { tensors, ternary, rounded_scales, size_bytes } = done;
    let scales = match rounded_scales {
        0 => "as they were".to_owned(),
        some => format!("{some} of {ternary} rounded to float16"),
    };
    output::table(&[
        ("written", path.display().to_string()),
        ("format", target.weights.name().to_owned()),
        ("embedding", target.head.name().to_owned()),
        ("tensors", format!("{tensors}, {ternary} of them ternary")),
        ("scales", scales),
        ("bytes", grouped(size_bytes)),
    ])
}
