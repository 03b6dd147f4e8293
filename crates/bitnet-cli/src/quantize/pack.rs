//! `bitnet quantize MASTER -o DIR`.

use std::path::Path;

use bitnet_core::ThreadPool;
use bitnet_inference::Checkpoint;
use bitnet_inference::convert::{ConvertOptions, Converted, HfForm, Target};
use serde_json::json;

use crate::args::QuantizeArgs;
use crate::convert;
use crate::failure::Failure;
use crate::{interrupt, output};

/// Writes the packed form of a float master, as the publishers of microsoft/bitnet-b1.58-2B-4T have made theirs.
pub(super) fn pack(args: &QuantizeArgs, path: &Path) -> Result<Converted, Failure> {
    let options = ConvertOptions { bf16_scales: true, ..ConvertOptions::new(Target::Hf(HfForm::Multiply)) };
    let pool = ThreadPool::new(args.threads.unwrap_or_else(ThreadPool::default_threads))?;
    let (model, gguf) = (args.model.clone(), args.gguf.options.clone());
    let checkpoint = interrupt::or_done(move || Ok(Checkpoint::find(Some(&model), &gguf)?))?;
    convert::write(&checkpoint, path, &options, &pool)
}

/// Says what was written.
pub(super) fn print(packed: &Converted, path: &Path, json: bool) -> Result<(), Failure> {
    if !json {
        // In the place of what a conversion loses.
        let rows = convert::rows(packed, path).into_iter().filter(|(name, _)| *name != "lost");
        return output::table(&rows.chain([("scales", "rounded to bf16".to_owned())]).collect::<Vec<_>>());
    }
    output::json(&json!({
        "written": path.display().to_string(),
        "form": packed.to.name(),
        "tensors": packed.tensors,
        "ternary": packed.ternary,
        "tensor_bytes": packed.tensor_bytes,
    }))
}
