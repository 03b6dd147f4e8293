//! Everything that can go wrong between a path and its text.

use std::path::PathBuf;
use std::sync::Arc;

use bitnet_core::ByteSize;

/// `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a checkpoint and its text. Every message is one line that names the file and the fact.
#[derive(Debug, thiserror::Error)]
#[allow(clippy::large_enum_variant, reason = "errors are cold")]
pub enum Error {
    /// Tensors, devices, threads.
    #[error(transparent)]
    Core(#[from] bitnet_core::Error),
    /// Quantization and packed layouts.
    #[error(transparent)]
    Quant(#[from] bitnet_quant::Error),
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// There is nothing at the path given as a model.
    #[error("{}: no such model: neither a folder with a config.json, nor a GGUF file, nor a hub id like \"microsoft/bitnet-b1.58-2B-4T\"", path.display())]
    ModelNotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// A file of the checkpoint is damaged, or contradicts another.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// The fact.
        reason: String,
    },
    /// A GGUF file is damaged, or holds what this crate does not read.
    #[error("{}: {what}, byte {offset}: expected {expected}, got {got}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// The tensor or key.
        what: String,
        /// Where in the file it stands.
        offset: usize,
        /// What there should be.
        expected: String,
        /// What there is.
        got: String,
    },
    /// A tensor that the architecture needs is not there.
    #[error("{}: tensor {name} is missing", path.display())]
    MissingTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// `config.json` (or `generation_config.json`) does not say what it must.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The fact.
        reason: String,
    },
    /// The architecture is not one of those this crate runs.
    #[error("{}: unknown architecture {architecture:?}; known: {known}", path.display())]
    UnknownArchitecture {
        /// The file that names it.
        path: PathBuf,
        /// `model_type` as written.
        architecture: String,
        /// The known ones.
        known: String,
    },
    /// The tokenizer is absent or cannot be read.
    #[error("{}: {reason}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The fact.
        reason: String,
    },
    /// The chat template is absent, or refused the messages.
    #[error("{}: chat template: {reason}", path.display())]
    ChatTemplate {
        /// The file.
        path: PathBuf,
        /// The fact.
        reason: String,
    },
    /// The prompt has no tokens.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A token id that the model does not have.
    #[error("token id {id} is outside the vocabulary of {vocab_size}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// The prompt does not fit, or leaves no room for a token behind it.
    #[error(
        "the prompt has {prompt_tokens} tokens; the context holds {context_length}, prompt and text together"
    )]
    ContextLength {
        /// Length of the prompt, in tokens.
        prompt_tokens: usize,
        /// Positions the model was built for.
        context_length: usize,
    },
    /// A text is shorter than what was asked of it.
    #[error("one window needs {needed} tokens, the text has {tokens}")]
    TextTooShort {
        /// Tokens found.
        tokens: usize,
        /// Tokens needed.
        needed: usize,
    },
    /// An option is out of its range.
    #[error("{name} must be {expected}, not {got}")]
    InvalidOption {
        /// Name of the option.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it was.
        got: String,
    },
    /// The weights are packed where floats are needed.
    #[error(
        "{}: its weights are packed, there are no floats to measure; needed is the float checkpoint of this model",
        path.display()
    )]
    PackedWeights {
        /// The file.
        path: PathBuf,
    },
    /// What constrains a text cannot be read or held, or leaves no token to choose.
    #[error("{name}: {reason}")]
    Constraint {
        /// Name of the option.
        name: &'static str,
        /// The fact.
        reason: String,
    },
    /// A conversion would not keep everything, and nobody said that it may not.
    #[error("{}: {reason}; lossy allows that", path.display())]
    Lossy {
        /// The source.
        path: PathBuf,
        /// What would be lost.
        reason: String,
    },
    /// A conversion was stopped by who asked for it.
    #[error("{}: stopped, nothing was written", path.display())]
    Stopped {
        /// The destination.
        path: PathBuf,
    },
    /// The hub did not deliver.
    #[error("{id}: {reason}")]
    Hub {
        /// Hub id of the model.
        id: String,
        /// The fact, and what to do about it.
        reason: String,
    },
    /// A sequence needs more memory than there is.
    #[error("a sequence of {tokens} tokens does not fit into memory; lower max_tokens")]
    OutOfMemory {
        /// Prompt and tokens to generate.
        tokens: usize,
    },
    /// A model is larger than what models in use leave of a [`crate::ModelCache`].
    #[error("{model} takes {bytes}; the model cache has {budget}, {in_use} of them in use")]
    ModelCacheFull {
        /// The model.
        model: String,
        /// Bytes of its weights.
        bytes: ByteSize,
        /// Bytes of the cache.
        budget: ByteSize,
        /// Bytes of models that cannot give way.
        in_use: ByteSize,
    },
    /// The error of a load that several waited for.
    #[error(transparent)]
    Shared(Arc<Error>),
    /// What runs a model failed.
    #[error("{name}: {reason}")]
    Backend {
        /// Name of the device.
        name: String,
        /// The fact.
        reason: String,
    },
    /// There is no Metal device, or it failed.
    #[error(transparent)]
    Metal(#[from] bitnet_metal::Error),
    /// What runs a model cannot do this.
    #[error("the device cannot {what}")]
    Unsupported {
        /// What was asked of it.
        what: &'static str,
    },
    /// An engine has as many requests as may wait.
    #[error("{capacity} requests are waiting, as many as may; try again later")]
    QueueFull {
        /// How many may wait.
        capacity: usize,
    },
    /// An engine has ended, and takes no more requests.
    #[error("the engine is closed")]
    EngineClosed,
    /// The computation met a number that is not finite.
    #[error("{what} is not finite; the checkpoint is damaged")]
    NotFinite {
        /// Which number.
        what: String,
    },
}

impl Error {
    /// Wraps an I/O error with the file it happened on.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// A damaged or contradictory checkpoint file.
    pub fn checkpoint(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.into(), reason: reason.into() }
    }

    /// Something in a GGUF file that is not as it must be.
    pub fn gguf(
        path: impl Into<PathBuf>,
        what: &str,
        offset: usize,
        expected: &str,
        got: impl Into<String>,
    ) -> Self {
        let (what, expected) = (what.to_owned(), expected.to_owned());
        Self::Gguf { path: path.into(), what, offset, expected, got: got.into() }
    }

    /// A config that does not say what it must.
    pub fn config(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Config { path: path.into(), reason: reason.into() }
    }
}
