//! What a run begins with: a model and what describes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitnet_core::tensor::lent_threads;
use bitnet_core::{Buffer, DType, ThreadPool};
use bitnet_inference::checkpoint::{Stored, map_file};
use bitnet_inference::config::ActivationMode;
use bitnet_inference::convert::{HfForm, Target, description, refuse_unwritten, to_master};
use bitnet_inference::{ChatTemplate, Checkpoint, ModelConfig, Tokenizer};
use serde_json::{Map, Value, json};

use super::Preset;
use super::adapter::Adaptation;
use super::conversion::converted;
use super::teacher::Teacher;
use crate::data::TokenCache;
use crate::mapped::mapped;
use crate::model::Decoder;
use crate::{ByteTokenizer, Error, Result};

pub(super) const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";

/// What may lie beside the config of a new model.
const BESIDE: [&str; 4] =
    [TOKENIZER, "tokenizer_config.json", "chat_template.jinja", "generation_config.json"];

/// A model to be trained, with its config, tokenizer and chat template.
#[derive(Debug)]
pub struct Start {
    pub(super) decoder: Decoder,
    /// Where it came from, for messages.
    pub(super) name: PathBuf,
    /// What is written beside the trained tensors.
    pub(super) files: BTreeMap<String, Buffer>,
    pub(super) tokenizer: Option<Tokenizer>,
    template: ChatTemplate,
    /// What ends a document.
    end: Option<u32>,
    /// Where an adapter is trained, and not the model.
    pub(super) adaptation: Option<Adaptation>,
    /// Whom it learns from.
    pub(super) teacher: Option<Teacher>,
}

impl Start {
    /// The model of a checkpoint: a float master, or packed, as a folder of either dialect or as a GGUF file.
    ///
    /// Packed weights begin as masters in bfloat16 that ternarise to exactly their codes and scales: see [`to_master`]. So
    /// the first forward pass is that of the packed model, bit for bit.
    ///
    /// Errors: those of [`Decoder::from_checkpoint`], [`to_master`] and [`refuse_unwritten`]; [`Error::Unsupported`] for
    /// packed weights that no master gives, or a model in full precision.
    pub fn model(checkpoint: &Checkpoint) -> Result<Self> {
        if ModelConfig::read(checkpoint)?.quantization.activations == ActivationMode::Float {
            let what = "a model in full precision as it is: the recipe distill makes it a BitNet one";
            return Err(Error::Unsupported { what: what.to_owned() });
        }
        if is_master(checkpoint)? {
            return Self::of_master(checkpoint);
        }
        let master = to_master(checkpoint, lent_threads()?.as_ref()).map_err(|error| match error {
            bitnet_inference::Error::Lossy { path, reason } => {
                Error::Unsupported { what: format!("{}: {reason}", path.display()) }
            }
            error => error.into(),
        });
        Self::of_master(&master?)
    }

    fn of_master(checkpoint: &Checkpoint) -> Result<Self> {
        let decoder = Decoder::from_checkpoint(checkpoint)?;
        refuse_unwritten(checkpoint, decoder.config(), Target::Hf(HfForm::Master))?;
        Self::new(checkpoint, decoder, description(checkpoint)?)
    }

    /// As [`Self::model`], and of a Llama checkpoint in full precision, as it is but for new norms in front of the output
    /// and down projections, the `SubLN` of BitNet.
    ///
    /// Errors: those of [`Self::model`]; [`Error::Unsupported`] for other architectures in full precision.
    pub fn student(checkpoint: &Checkpoint) -> Result<Self> {
        Self::model(converted(checkpoint)?.as_ref().unwrap_or(checkpoint))
    }

    /// A new model of the shape of a preset: see [`Decoder::new`].
    ///
    /// Errors: none of a library that is whole.
    pub fn preset(preset: Preset, seed: u64) -> Result<Self> {
        Self::scratch(preset.name().into(), preset.files()?, seed)
    }

    /// A new model as a `config.json` describes it, with the tokenizer in the same folder, or of bytes where there is none:
    /// see [`ByteTokenizer`]. See also [`Decoder::new`].
    ///
    /// Errors: those of [`ModelConfig::read`]; [`Error::Unsupported`] for what the trainer has not; those of files.
    pub fn config(path: &Path, seed: u64) -> Result<Self> {
        let config: Map<String, Value> = serde_json::from_slice(&mapped(path)?)
            .map_err(|error| bitnet_inference::Error::config(path, error.to_string()))?;
        let mut files = BTreeMap::new();
        for name in BESIDE {
            files.extend(map_file(&path.with_file_name(name))?.map(|file| (name.to_owned(), file)));
        }
        Self::described(path, config, files, seed)
    }

    /// A new model as the fields of a `config.json` describe it, with a tokenizer of bytes: see [`Self::config`].
    ///
    /// Errors: as there, without those of files.
    pub fn fields(config: Map<String, Value>, seed: u64) -> Result<Self> {
        Self::described(Path::new(CONFIG), config, BTreeMap::new(), seed)
    }

    fn described(
        path: &Path,
        mut config: Map<String, Value>,
        mut files: BTreeMap<String, Buffer>,
        seed: u64,
    ) -> Result<Self> {
        let invalid = |reason: String| bitnet_inference::Error::config(path, reason);
        if !files.contains_key(TOKENIZER) {
            let (vocab_size, needed) = (config.get("vocab_size"), ByteTokenizer::VOCAB_SIZE);
            if let Some(size) = vocab_size.and_then(Value::as_u64).filter(|size| *size < needed as u64) {
                let reason = format!("vocab_size is {size}, and the tokenizer of bytes has {needed} tokens");
                return Err(invalid(reason).into());
            }
            files.extend(ByteTokenizer::files());
            for (name, id) in [("bos_token_id", ByteTokenizer::BEGIN), ("eos_token_id", ByteTokenizer::END)] {
                config.entry(name).or_insert(id.into());
            }
        }
        files.insert(CONFIG.to_owned(), Value::from(config).to_string().into_bytes().into());
        Self::scratch(path.to_owned(), files, seed)
    }

    /// A new model of a config. `name` is what messages call it.
    fn scratch(name: PathBuf, mut files: BTreeMap<String, Buffer>, seed: u64) -> Result<Self> {
        // Weights will be masters, whatever the config was written for.
        let mut config: Map<String, Value> =
            files.get(CONFIG).and_then(|config| serde_json::from_slice(config).ok()).unwrap_or_default();
        let section =
            config.entry("quantization_config").or_insert_with(|| json!({"quant_method": "bitnet"}));
        let Some(section) = section.as_object_mut() else {
            return Err(bitnet_inference::Error::config(name, "quantization_config is no object").into());
        };
        section.insert("linear_class".to_owned(), "autobitlinear".into());
        section.insert("quantization_mode".to_owned(), "online".into());
        files.insert(CONFIG.to_owned(), Value::from(config).to_string().into_bytes().into());
        let checkpoint = Checkpoint::from_memory(name, files.clone(), BTreeMap::new());
        let decoder = Decoder::new(&ModelConfig::read(&checkpoint)?, seed)?;
        refuse_unwritten(&checkpoint, decoder.config(), Target::Hf(HfForm::Master))?;
        Self::new(&checkpoint, decoder, files)
    }

    pub(super) fn new(
        checkpoint: &Checkpoint,
        decoder: Decoder,
        files: BTreeMap<String, Buffer>,
    ) -> Result<Self> {
        let config = decoder.config();
        let tokenizer = Tokenizer::read(checkpoint)?;
        if let Some(tokenizer) = tokenizer.as_ref().filter(|of| of.vocab_size() > config.vocab_size) {
            let reason = format!(
                "vocab_size is {}, and the tokenizer has {} tokens",
                config.vocab_size,
                tokenizer.vocab_size()
            );
            return Err(bitnet_inference::Error::config(checkpoint.file_path(CONFIG), reason).into());
        }
        Ok(Self {
            name: checkpoint.path().to_owned(),
            end: first_end(&files).or_else(|| config.eos.first().copied()),
            tokenizer,
            template: ChatTemplate::read(checkpoint)?,
            files,
            decoder,
            adaptation: None,
            teacher: None,
        })
    }

    /// The model.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The token ids of a text. Errors: [`bitnet_inference::Error::Tokenizer`] where there is no tokenizer.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let missing = || bitnet_inference::Error::Tokenizer {
            path: self.name.clone(),
            reason: "there is none".to_owned(),
        };
        Ok(self.tokenizer.as_ref().ok_or_else(missing)?.encode(text, true)?)
    }

    /// What reads the data of this model, into `folder`.
    pub fn token_cache<'s>(&'s self, folder: &Path, pool: &'s ThreadPool) -> TokenCache<'s> {
        TokenCache {
            folder: folder.to_owned(),
            vocab_size: self.decoder.config().vocab_size,
            end: self.end,
            tokenizer: self.tokenizer.as_ref(),
            template: Some(&self.template),
            pool,
        }
    }
}

/// Whether the linears are stored as floats in a folder.
fn is_master(checkpoint: &Checkpoint) -> Result<bool> {
    if checkpoint.file(CONFIG)?.is_none() {
        return Ok(false);
    }
    for name in checkpoint.tensor_names() {
        if matches!(checkpoint.tensor(name)?, Some(Stored::Plain(tensor)) if tensor.dtype() == DType::U8) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The token that ends a text: `generation_config.json` may add those that end an answer.
fn first_end(files: &BTreeMap<String, Buffer>) -> Option<u32> {
    let config: Value = serde_json::from_slice(files.get(CONFIG)?).ok()?;
    let ids = &config["eos_token_id"];
    ids.get(0).unwrap_or(ids).as_u64().map(|id| id as u32)
}
