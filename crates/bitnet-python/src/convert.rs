//! Models in other forms, and whether they are what they should be.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_inference::convert::{ConvertOptions, Converted, HfForm, Target};
use bitnet_inference::{Checkpoint, GgufOptions};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::Serialize;

use crate::error::{Failure, exception};
use crate::model::{check_signals, count, model_name};

/// Write the model source at the path destination in another form, with tokenizer and chat template; codes and scales
/// of ternary weights stay what they are.
///
/// source is what load() takes. to is "hf", "hf-bitlinear", "bf16", "gguf-i2_s", "gguf-tq2_0" or "gguf-tq1_0", by
/// default "gguf-i2_s" for a destination that ends in .gguf, else "hf". head is the type of embedding and head, "f16",
/// "bf16", for GGUF also "q8_0" and "q6_k", by default one that loses nothing; shard_bytes is the most bytes of tensors
/// in one file, by default 5 GB in a folder and all in one GGUF file; several are NAME-00001-of-00003.gguf and so on. What would be lost raises CheckpointError unless lossy. Nothing is written over, and nothing
/// is left behind by a conversion that fails or is interrupted.
///
/// Returns a dict: "to", "embedding" (the type), "tensors", "ternary" (how many of them), "files", "tensor_bytes", and
/// "lost", a list of texts. Raises the errors of load(), FileError, CheckpointError, TokenizerError, OptionError.
#[pyfunction]
#[pyo3(signature = (source, destination, *, to = None, head = None, shard_bytes = None, lossy = false, gguf = "",
                    threads = None))]
#[expect(clippy::too_many_arguments, reason = "the options of the Python call")]
pub(crate) fn convert<'py>(
    py: Python<'py>,
    source: PathBuf,
    destination: PathBuf,
    to: Option<&str>,
    head: Option<&str>,
    shard_bytes: Option<i64>,
    lossy: bool,
    gguf: &str,
    threads: Option<i64>,
) -> Result<Bound<'py, PyDict>, Failure> {
    let to = to.map_or_else(|| Ok(Target::of_path(&destination)), str::parse)?;
    let options = ConvertOptions {
        head: head.map(str::parse).transpose()?,
        shard_bytes: shard_bytes.map(|bytes| count("shard_bytes", bytes)).transpose()?,
        lossy,
        ..ConvertOptions::new(to)
    };
    let (source, gguf, threads) = (model_name(source)?, gguf.parse()?, threads_or_default(threads)?);
    let converted = py.detach(move || {
        let pool = ThreadPool::new(threads)?;
        let checkpoint = Checkpoint::find(Some(&source), &gguf)?;
        write(&checkpoint, &destination, &options, &pool)
    })?;
    report(py, converted)
}

/// Write the weighted mean of float masters of one shape to the folder destination, with the tokenizer of the first:
/// w = sum of a_i w_i, a the weights divided by their sum, by default all the same. Runs of fine-tuning from one model
/// with other seeds have a mean that is better than each (arXiv 2203.05482).
///
/// models are what load() takes, at least two. Returns what convert() does. Raises the errors of load(), FileError,
/// CheckpointError for packed models and those of another shape or tokenizer, OptionError.
#[pyfunction]
#[pyo3(signature = (models, destination, *, weights = None, threads = None))]
pub(crate) fn merge(
    py: Python<'_>,
    models: Vec<PathBuf>,
    destination: PathBuf,
    weights: Option<Vec<f64>>,
    threads: Option<i64>,
) -> Result<Bound<'_, PyDict>, Failure> {
    let models = models.into_iter().map(model_name).collect::<Result<Vec<_>, _>>()?;
    let threads = threads_or_default(threads)?;
    let converted = py.detach(move || {
        let pool = ThreadPool::new(threads)?;
        let find = |model: &String| Checkpoint::find(Some(model), &GgufOptions::default());
        let checkpoints = models.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let merged = bitnet_inference::convert::merge(&checkpoints, weights.as_deref(), &pool)?;
        write(&merged, &destination, &ConvertOptions::new(Target::Hf(HfForm::Master)), &pool)
    })?;
    report(py, converted)
}

/// Converts until Ctrl-C.
fn write(
    checkpoint: &Checkpoint,
    destination: &Path,
    options: &ConvertOptions,
    pool: &ThreadPool,
) -> Result<Converted, Failure> {
    let mut interrupt = Ok(());
    let converted =
        bitnet_inference::convert::convert(checkpoint, destination, options, pool, &mut |_, _| {
            interrupt = check_signals();
            if interrupt.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
    interrupt?;
    Ok(converted?)
}

fn report(py: Python<'_>, converted: Converted) -> Result<Bound<'_, PyDict>, Failure> {
    let dict = PyDict::new(py);
    dict.set_item("to", converted.to.name())?;
    dict.set_item("embedding", converted.embedding)?;
    dict.set_item("tensors", converted.tensors)?;
    dict.set_item("ternary", converted.ternary)?;
    dict.set_item("files", converted.files)?;
    dict.set_item("tensor_bytes", converted.tensor_bytes)?;
    dict.set_item("lost", converted.lost)?;
    Ok(dict)
}

/// Look for what is wrong with a model: its structure, its codes, scales and norms, and whether it reads plain English
/// better with one of the known mistakes of converters undone. With against, another form of the same model, also
/// whether codes, scales, token ids and logits are the same.
///
/// model and against are what load() takes; gguf decides what a GGUF file of model leaves open. Returns what `bitnet
/// verify --json` prints, as a dict: "model", "checks", a list of dicts with "name", "status" ("ok", "warning" or
/// "fail") and "fact", and "tensors", a list with the statistics of each ternary matrix. A model that does not load is
/// a check that failed; raises the errors of load() for one that is not there, and for against.
#[pyfunction]
#[pyo3(signature = (model = None, against = None, *, gguf = "", threads = None))]
pub(crate) fn verify<'py>(
    py: Python<'py>,
    model: Option<PathBuf>,
    against: Option<PathBuf>,
    gguf: &str,
    threads: Option<i64>,
) -> Result<Bound<'py, PyAny>, Failure> {
    let (model, against) = (model.map(model_name).transpose()?, against.map(model_name).transpose()?);
    let (gguf, threads) = (gguf.parse()?, threads_or_default(threads)?);
    let found = py.detach(|| {
        let pool = Arc::new(ThreadPool::new(threads)?);
        let checkpoint = Checkpoint::find(model.as_deref(), &gguf)?;
        let find = |model: String| Checkpoint::find(Some(&model), &GgufOptions::default());
        let against = against.map(find).transpose()?;
        Ok::<_, Failure>(bitnet_inference::verify::verify(&checkpoint, against.as_ref(), &pool)?)
    })?;
    Ok(to_python(py, &found)?)
}

pub(crate) fn threads_or_default(threads: Option<i64>) -> Result<usize, Failure> {
    threads.map_or_else(|| Ok(ThreadPool::default_threads()), |threads| count("threads", threads))
}

/// A value as Python reads its JSON.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).map_err(|error| exception("BitNetError", &error.to_string()))?;
    py.import("json")?.call_method1("loads", (text,))
}
