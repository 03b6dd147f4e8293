//! Checkpoints in other forms: the codes and scales of every ternary matrix stay what they are.
//!
//! A destination appears when it is whole; what is there already is never written over.

mod describe;
mod gguf;
mod head;
mod hf;
mod in_memory;
mod losses;
mod master;
mod merge;
mod q6_k;
pub mod safetensors;
mod target;

use std::ops::ControlFlow;
use std::path::Path;

use bitnet_core::{DType, ThreadPool};

pub use self::describe::description;
pub use self::gguf::GgufWeights;
pub use self::head::HeadType;
pub use self::hf::HfForm;
pub use self::in_memory::to_master;
use self::losses::Losses;
pub use self::merge::merge;
use self::safetensors::{Spec, write_bytes};
pub use self::target::Target;
use crate::atomic_file::refuse_existing;
use crate::config::{ActivationMode, ModelConfig, WeightForm};
use crate::model::{EMBEDDING, Model};
use crate::{Checkpoint, Error, Result, atomic_folder};

/// How to convert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvertOptions {
    /// The form to write.
    pub to: Target,
    /// Type of embedding and head. Without one a folder keeps what the source has, and a GGUF file takes the first of
    /// float16 and bfloat16 that holds every weight.
    pub head: Option<HeadType>,
    /// The most bytes of tensors in one file. Without it those of a folder have [`Self::SHARD_BYTES`], and a GGUF file has
    /// all tensors; with it there are GGUF files `name-00001-of-00003.gguf` and so on if one does not do.
    pub shard_bytes: Option<usize>,
    /// Whether something may be lost, such as a scale that the form rounds.
    pub lossy: bool,
    /// Makes what publishers of packed models make of a float master: scales are rounded to bfloat16, where a packed folder
    /// otherwise has them in float32 if they need it. Other sources are refused.
    pub bf16_scales: bool,
}

impl ConvertOptions {
    /// 5 GB, as transformers shards.
    pub const SHARD_BYTES: usize = 5_000_000_000;

    /// A conversion to this form that loses nothing.
    pub fn new(to: Target) -> Self {
        Self { to, head: None, shard_bytes: None, lossy: false, bf16_scales: false }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The form.
    pub to: Target,
    /// Type of the embedding.
    pub embedding: &'static str,
    /// Tensors.
    pub tensors: usize,
    /// Ternary matrices among them.
    pub ternary: usize,
    /// Files that hold them.
    pub files: usize,
    /// Bytes of all tensors.
    pub tensor_bytes: usize,
    /// What was not kept, a line each; empty unless [`ConvertOptions::lossy`] or
    /// [`ConvertOptions::head`] allow it.
    pub lost: Vec<String>,
}

/// Writes `checkpoint` at `path` in another form, with tokenizer and chat template.
///
/// `progress(done, all)` is called behind every tensor, with bytes of tensors, and stops the conversion with a break.
///
/// Errors: those of [`Model::load`]; [`Error::Io`], also for something that is at `path` already; [`Error::Lossy`] for
/// what would be lost unless `options` allow it; [`Error::Checkpoint`] and [`Error::Tokenizer`] for what the form has no
/// place for; [`Error::Stopped`]. Nothing is left behind then.
pub fn convert(
    checkpoint: &Checkpoint,
    path: &Path,
    options: &ConvertOptions,
    pool: &ThreadPool,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Converted> {
    refuse_existing(path)?;
    let model = Model::load(checkpoint, pool)?;
    refuse_unwritten(checkpoint, &model.config, options.to)?;
    if options.bf16_scales && model.stored != WeightForm::Master {
        let fact = "its weights are ternary already, with scales of their own; convert them";
        return Err(Error::checkpoint(checkpoint.path(), fact.to_owned()));
    }
    let progress = Progress { path, report: progress, done: 0, all: 0 };
    let mut converted = match options.to {
        Target::Hf(form) => to_folder(checkpoint, &model, path, form, options, progress),
        Target::Gguf(weights) => gguf::write(checkpoint, &model, path, weights, options, pool, progress),
    }?;
    // Whoever names a type allows what it rounds, and is told.
    if let Some(head) = options.head.filter(|head| !head.holds(&model, pool)) {
        converted.lost.push(format!("embedding and head: rounded to {}, as asked for", head.name()));
    }
    Ok(converted)
}

/// Refuses models that run, and cannot be written in a form yet.
///
/// Errors: [`Error::Checkpoint`].
pub fn refuse_unwritten(checkpoint: &Checkpoint, config: &ModelConfig, to: Target) -> Result<()> {
    let c = config;
    let is_folder = matches!(to, Target::Hf(_));
    let is_renamed = c.architecture.marker.is_some() || !["bitnet", "llama"].contains(&c.architecture.name);
    let fact = if c.quantization.activations == ActivationMode::Float {
        "has activations that are not quantized"
    } else if is_folder && c.quantization.input_norm.is_some_and(|norm| norm.name == "norm") {
        "has a norm in front of each projection"
    } else if is_folder && is_renamed {
        "has norms that other architectures do not have"
    } else {
        return Ok(());
    };
    Err(Error::checkpoint(checkpoint.path(), format!("{fact}; writing such models is not supported yet")))
}

/// Counts what is written.
struct Progress<'a> {
    path: &'a Path,
    report: &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    done: usize,
    all: usize,
}

impl Progress<'_> {
    /// Adds a tensor.
    fn add(&mut self, bytes: usize) -> Result<()> {
        self.done += bytes;
        match (self.report)(self.done, self.all) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped { path: self.path.to_owned() }),
        }
    }
}

/// What a Hugging Face folder will hold.
struct Plan<'m> {
    tensors: hf::Tensors<'m>,
    /// Names and contents of all files beside them.
    files: Vec<(&'static str, Vec<u8>)>,
    /// Type of the embedding.
    embedding: DType,
    /// What is not kept.
    lost: Vec<String>,
}

impl<'m> Plan<'m> {
    /// Errors: [`Error::Lossy`] for what would be lost and may not be.
    fn new(
        checkpoint: &'m Checkpoint,
        model: &'m Model,
        form: HfForm,
        types: hf::Types,
        is_lossy: bool,
    ) -> Result<Self> {
        let mut losses = Losses::default();
        let tensors = hf::Tensors::of(checkpoint, model, form, types, &mut losses)?;
        let rope_scaling = describe::rope_scaling(checkpoint, &model.config, &mut losses)?;
        let lost = losses.accept(checkpoint.path(), is_lossy)?;
        let found = tensors.specs.iter().find(|spec| spec.name == EMBEDDING);
        let embedding = found.map_or(DType::F32, |spec| spec.dtype);
        let files = describe::files(checkpoint, model, form, embedding, rope_scaling)?;
        Ok(Self { tensors, files, embedding, lost })
    }
}

fn to_folder(
    checkpoint: &Checkpoint,
    model: &Model,
    path: &Path,
    form: HfForm,
    options: &ConvertOptions,
    mut progress: Progress<'_>,
) -> Result<Converted> {
    let head = match options.head {
        None => None,
        Some(HeadType::F16) => Some(DType::F16),
        Some(HeadType::BF16) => Some(DType::BF16),
        Some(other) => {
            let (name, expected) = ("head", "f16 or bf16 in a Hugging Face folder");
            return Err(Error::InvalidOption { name, expected, got: other.name().to_owned() });
        }
    };
    let types = hf::Types { head, bf16_scales: options.bf16_scales };
    let Plan { tensors, files: described, embedding, lost } =
        Plan::new(checkpoint, model, form, types, options.lossy)?;
    let specs = &tensors.specs;
    progress.all = specs.iter().map(Spec::size_bytes).sum();
    let shard_bytes = options.shard_bytes.unwrap_or(ConvertOptions::SHARD_BYTES);
    let files = atomic_folder::write(path, |folder| {
        let files = safetensors::write(folder, specs, shard_bytes, |index| {
            progress.add(specs[index].size_bytes())?;
            tensors.bytes(index)
        })?;
        described.iter().try_for_each(|(name, bytes)| write_bytes(&folder.join(name), bytes))?;
        Ok(files)
    })?;
    Ok(Converted {
        to: options.to,
        embedding: embedding.name(),
        tensors: specs.len(),
        ternary: model.ternary_linears().count(),
        files,
        tensor_bytes: progress.done,
        lost,
    })
}
