//! The engine: a model, its tokenizer, and the backend that runs it.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bitnet_core::{Device, ThreadPool};

use crate::backend::cpu::CpuOptions;
use crate::backend::{Backend, FallbackBackend, backends};
use crate::chat::{ChatTemplate, Message};
use crate::checkpoint::{Checkpoint, GgufOptions};
use crate::config::{ActivationMode, ModelConfig};
use crate::embed::AskedPooling;
use crate::generate::{GenerateOptions, Generation, Prompt, TokenStream};
use crate::model::Model;
use crate::model::adapter::Adapter;
use crate::sample::Grammars;
use crate::speculation::StepTimes;
use crate::summary::Summary;
use crate::tokenizer::{TokenBytes, Tokenizer};
use crate::{Error, Result};

/// How to run a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Where to run it.
    pub device: Device,
    /// Number of threads; `None` takes the physical cores this process may use.
    pub threads: Option<usize>,
    /// How to run on the CPU.
    pub cpu: CpuOptions,
    /// What a GGUF file leaves open.
    pub gguf: GgufOptions,
    /// What ternary linears multiply; `None` takes what the checkpoint says.
    pub activations: Option<ActivationMode>,
    /// Folder of an adapter to put beside the linears: see [`Adapter::open`].
    pub adapter: Option<PathBuf>,
}

/// The backend of a model, and what that falls back to, one by one.
type Backends = Vec<Arc<dyn Backend>>;

/// A model that is ready to run.
#[derive(Debug)]
pub struct LoadedModel {
    config: ModelConfig,
    summary: Summary,
    /// A checkpoint without one still computes logits of token ids.
    tokenizer: Option<Tokenizer>,
    template: ChatTemplate,
    backend: Arc<dyn Backend>,
    /// The same, and what it falls back to, one by one.
    backends: Backends,
    /// What to say where text is asked of a checkpoint without a tokenizer.
    no_tokenizer: (PathBuf, &'static str),
    /// How texts become vectors.
    pooling: AskedPooling,
    /// How long steps of the streams take, so far.
    step_times: StepTimes,
    /// Made when they are first asked for.
    token_bytes: OnceLock<Arc<TokenBytes>>,
    grammars: OnceLock<Grammars>,
}

impl LoadedModel {
    /// Loads the checkpoint at `path`: a folder or a GGUF file.
    pub fn open(path: &Path, options: &LoadOptions) -> Result<Arc<Self>> {
        Self::from_checkpoint(&Checkpoint::open_with(path, &options.gguf)?, options)
    }

    /// Loads the embedded model, bitnet-tiny.
    pub fn embedded(options: &LoadOptions) -> Result<Arc<Self>> {
        Self::from_checkpoint(&Checkpoint::embedded()?, options)
    }

    /// Prepares the model of a checkpoint.
    pub fn from_checkpoint(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Arc<Self>> {
        Self::prepared(checkpoint, options, |model, pool| backends(options.device, options.cpu, model, &pool))
    }

    /// Loads the model of a checkpoint, which `prepare` makes a backend of, whatever the device of `options`.
    pub fn from_checkpoint_on(
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        prepare: impl FnOnce(Model, Arc<ThreadPool>) -> Result<Arc<dyn Backend>>,
    ) -> Result<Arc<Self>> {
        Self::prepared(checkpoint, options, |model, pool| Ok(vec![prepare(model, pool)?]))
    }

    /// Loads the model of a checkpoint, which `prepare` makes backends of: the one to use, and what that falls back to.
    fn prepared(
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        prepare: impl FnOnce(Model, Arc<ThreadPool>) -> Result<Backends>,
    ) -> Result<Arc<Self>> {
        options.cpu.check()?;
        let pool = Arc::new(ThreadPool::new(options.threads.unwrap_or_else(ThreadPool::default_threads))?);
        // A large vocabulary takes as long to read as the weights.
        let (tokenizer, loaded) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| Tokenizer::read(checkpoint));
            let loaded = load(checkpoint, pool, options, prepare);
            (tokenizer.join().unwrap_or_else(|panic| resume_unwind(panic)), loaded)
        });
        let (config, mut summary, backends) = loaded?;
        let backend =
            backends.iter().rev().cloned().reduce(|second, first| -> Arc<dyn Backend> {
                Arc::new(FallbackBackend::new(first, second))
            });
        let tokenizer = tokenizer?;
        let template = ChatTemplate::read(checkpoint)?;
        summary.describe_text(tokenizer.as_ref(), template.is_present());
        let no_tokenizer = Tokenizer::missing(checkpoint);
        Ok(Arc::new(Self {
            config,
            summary,
            tokenizer,
            template,
            backend: backend.expect("a backend for the model"),
            backends,
            no_tokenizer,
            pooling: AskedPooling::read(checkpoint)?,
            step_times: StepTimes::default(),
            token_bytes: OnceLock::new(),
            grammars: OnceLock::new(),
        }))
    }

    /// What the checkpoint says of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The tokenizer. Errors: [`Error::Tokenizer`] when the checkpoint has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| {
            let (path, reason) = &self.no_tokenizer;
            Error::Tokenizer { path: path.clone(), reason: (*reason).to_owned() }
        })
    }

    /// What runs the model.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// The same, to be kept.
    pub fn shared_backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.backend)
    }

    /// What an engine runs the model on, and what it falls back to, one by one.
    pub(crate) fn backends(&self) -> Vec<Arc<dyn Backend>> {
        self.backends.clone()
    }

    /// What the model is and what it costs to run.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Renders a conversation with the checkpoint's template; with `add_generation_prompt` the assistant is next.
    ///
    /// Errors: [`Error::ChatTemplate`].
    pub fn apply_chat_template(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.template.render(messages, add_generation_prompt)
    }

    /// Errors: [`Error::ChatTemplate`] when the checkpoint has no template.
    pub(crate) fn check_chat_template(&self) -> Result<()> {
        if self.template.is_present() { Ok(()) } else { self.template.render(&[], false).map(drop) }
    }

    /// Starts a generation.
    ///
    /// Errors: [`Error::EmptyPrompt`], [`Error::ContextLength`], [`Error::InvalidOption`], [`Error::TokenOutOfRange`].
    pub fn stream<'p>(
        self: &Arc<Self>,
        prompt: impl Into<Prompt<'p>>,
        options: &GenerateOptions,
    ) -> Result<TokenStream> {
        TokenStream::new(self, prompt.into(), options)
    }

    /// Generates to the end. Errors as [`Self::stream`].
    pub fn generate<'p>(
        self: &Arc<Self>,
        prompt: impl Into<Prompt<'p>>,
        options: &GenerateOptions,
    ) -> Result<Generation> {
        self.stream(prompt, options)?.run()
    }

    /// Calls `visit(position, logits)` with the `vocab_size` logits behind every token of `ids`, in order, at most
    /// `batch` tokens held at once.
    pub fn visit_logits<E: From<Error>>(
        &self,
        ids: &[u32],
        batch: usize,
        mut visit: impl FnMut(usize, &[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let config = &self.config;
        self.check_ids(ids)?;
        if ids.len() > config.context_length {
            let (prompt_tokens, context_length) = (ids.len(), config.context_length);
            return Err(Error::ContextLength { prompt_tokens, context_length }.into());
        }
        let mut sequence = self.backend.start(ids.len())?;
        let batch = batch.clamp(1, sequence.chunk());
        for (index, ids) in ids.chunks(batch).enumerate() {
            sequence.feed(ids, ids.len())?;
            for (offset, logits) in sequence.logits(ids.len())?.chunks_exact(config.vocab_size).enumerate() {
                visit(index * batch + offset, logits)?;
            }
        }
        Ok(())
    }

    /// How long steps of the streams take, so far.
    pub(crate) fn step_times(&self) -> &StepTimes {
        &self.step_times
    }

    /// How the checkpoint wants texts to become vectors.
    pub(crate) fn pooling(&self) -> &AskedPooling {
        &self.pooling
    }

    /// The bytes of every token.
    ///
    /// Errors: [`Error::Tokenizer`] when there is none, or when it does not say.
    pub(crate) fn token_bytes(&self) -> Result<Arc<TokenBytes>> {
        if let Some(bytes) = self.token_bytes.get() {
            return Ok(Arc::clone(bytes));
        }
        let bytes = Arc::new(self.tokenizer()?.token_bytes(self.config.vocab_size)?);
        Ok(Arc::clone(self.token_bytes.get_or_init(|| bytes)))
    }

    /// What makes constraints for the tokens of the model.
    ///
    /// Errors: as [`Self::token_bytes`]; [`Error::Constraint`] for a model without a token that ends a text.
    pub(crate) fn grammars(&self) -> Result<&Grammars> {
        if let Some(grammars) = self.grammars.get() {
            return Ok(grammars);
        }
        let grammars = Grammars::new(&*self.token_bytes()?, self.config.vocab_size, &self.config.eos)?;
        Ok(self.grammars.get_or_init(|| grammars))
    }

    /// Ids of a prompt, not empty and inside the vocabulary.
    pub(crate) fn prompt_ids(&self, prompt: Prompt<'_>) -> Result<Vec<u32>> {
        let ids = match prompt {
            Prompt::Text("") => return Err(Error::EmptyPrompt),
            Prompt::Text(text) => {
                let bos = self.template.bos_token();
                let has_bos = !bos.is_empty() && text.starts_with(bos);
                self.tokenizer()?.encode(text, !has_bos)?
            }
            Prompt::Ids(ids) => ids.to_vec(),
        };
        self.check_ids(&ids)?;
        Ok(ids)
    }

    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocab_size = self.config.vocab_size;
        match ids.iter().find(|&&id| id as usize >= vocab_size) {
            Some(&id) => Err(Error::TokenOutOfRange { id, vocab_size }),
            None if ids.is_empty() => Err(Error::EmptyPrompt),
            None => Ok(()),
        }
    }
}

/// Loads the weights and hands them to the backend.
fn load(
    checkpoint: &Checkpoint,
    pool: Arc<ThreadPool>,
    options: &LoadOptions,
    prepare: impl FnOnce(Model, Arc<ThreadPool>) -> Result<Backends>,
) -> Result<(ModelConfig, Summary, Backends)> {
    let mut model = Model::load(checkpoint, &pool)?;
    if let Some(mode) = options.activations {
        model.set_activations(mode);
    }
    if let Some(path) = &options.adapter {
        model.set_adapter(Adapter::open(path)?)?;
    }
    let (config, summary) = (model.config.clone(), Summary::new(checkpoint, &model));
    Ok((config, summary, prepare(model, pool)?))
}
