//! Errors by what they are about.

use bitnet_core::Error as CoreError;
use bitnet_quant::Error as QuantError;

use super::tally::kinds;
use crate::Error;

/// What an error is about, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The operating system refused a file.
    Io,
    /// There is no such model.
    ModelNotFound,
    /// A checkpoint is damaged.
    Checkpoint,
    /// A config does not say what it must.
    Config,
    /// The tokenizer is absent or damaged.
    Tokenizer,
    /// The chat template is absent, or refused the messages.
    ChatTemplate,
    /// A prompt is empty or has ids outside the vocabulary.
    Prompt,
    /// A prompt does not fit the context.
    ContextLength,
    /// An option is out of its range.
    Option,
    /// The hub did not deliver.
    Hub,
    /// There is not enough memory.
    OutOfMemory,
    /// A computation met a number that is not finite.
    NotFinite,
    /// A device, an instruction set or a thread is not to be had.
    Device,
    /// Shapes, types or codes do not fit.
    Tensor,
    /// Who asked for it stopped it.
    Stopped,
    /// An engine has no room for more requests, or has ended.
    Engine,
}

kinds!(ErrorKind {
    Io => "io",
    ModelNotFound => "model_not_found",
    Checkpoint => "checkpoint",
    Config => "config",
    Tokenizer => "tokenizer",
    ChatTemplate => "chat_template",
    Prompt => "prompt",
    ContextLength => "context_length",
    Option => "option",
    Hub => "hub",
    OutOfMemory => "out_of_memory",
    NotFinite => "not_finite",
    Device => "device",
    Tensor => "tensor",
    Stopped => "stopped",
    Engine => "engine",
});

impl Error {
    /// What it is about.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Core(error) => core(error),
            Self::Quant(error) => quant(error),
            Self::Shared(error) => error.kind(),
            Self::Io { .. } => ErrorKind::Io,
            Self::ModelNotFound { .. } => ErrorKind::ModelNotFound,
            Self::Checkpoint { .. }
            | Self::Gguf { .. }
            | Self::MissingTensor { .. }
            | Self::Lossy { .. }
            | Self::PackedWeights { .. } => ErrorKind::Checkpoint,
            Self::Config { .. } | Self::UnknownArchitecture { .. } => ErrorKind::Config,
            Self::Tokenizer { .. } => ErrorKind::Tokenizer,
            Self::ChatTemplate { .. } => ErrorKind::ChatTemplate,
            Self::EmptyPrompt | Self::TokenOutOfRange { .. } | Self::TextTooShort { .. } => ErrorKind::Prompt,
            Self::ContextLength { .. } => ErrorKind::ContextLength,
            Self::InvalidOption { .. } | Self::Constraint { .. } => ErrorKind::Option,
            Self::Stopped { .. } => ErrorKind::Stopped,
            Self::Hub { .. } => ErrorKind::Hub,
            Self::OutOfMemory { .. }
            | Self::ModelCacheFull { .. }
            | Self::Metal(bitnet_metal::Error::OutOfMemory { .. }) => ErrorKind::OutOfMemory,
            Self::NotFinite { .. } => ErrorKind::NotFinite,
            Self::Backend { .. } | Self::Metal(_) | Self::Unsupported { .. } => ErrorKind::Device,
            Self::QueueFull { .. } | Self::EngineClosed => ErrorKind::Engine,
        }
    }
}

fn core(error: &CoreError) -> ErrorKind {
    match error {
        CoreError::OutOfMemory { .. } | CoreError::MemoryLimit { .. } => ErrorKind::OutOfMemory,
        CoreError::UnknownIsa { .. } | CoreError::IsaUnavailable { .. } | CoreError::ThreadSpawn(_) => {
            ErrorKind::Device
        }
        CoreError::ByteSize(_) | CoreError::UnknownDevice(_) | CoreError::ThreadCount { .. } => {
            ErrorKind::Option
        }
        CoreError::ByteLength { .. }
        | CoreError::ShapeOverflow(_)
        | CoreError::DType { .. }
        | CoreError::UnknownDType(_)
        | CoreError::Unsupported { .. }
        | CoreError::Packed
        | CoreError::OutOfRange { .. }
        | CoreError::NegativePower
        | CoreError::Shapes { .. }
        | CoreError::Reshape { .. }
        | CoreError::Inferred { .. }
        | CoreError::Rank { .. }
        | CoreError::Axis { .. }
        | CoreError::RepeatedAxis { .. }
        | CoreError::Index { .. }
        | CoreError::ZeroStep
        | CoreError::Empty { .. }
        | CoreError::NotOne { .. }
        | CoreError::View { .. } => ErrorKind::Tensor,
    }
}

fn quant(error: &QuantError) -> ErrorKind {
    match error {
        QuantError::Core(error) => core(error),
        QuantError::PackingUnavailable { .. } => ErrorKind::Device,
        QuantError::UnknownPacking(_)
        | QuantError::UnknownCodec { .. }
        | QuantError::UnknownRule(_)
        | QuantError::UnknownPrecision(_)
        | QuantError::InvalidBits(_)
        | QuantError::InvalidClip(_) => ErrorKind::Option,
        QuantError::Length { .. }
        | QuantError::Blocks { .. }
        | QuantError::InvalidCode { .. }
        | QuantError::InvalidScale(_)
        | QuantError::BlockScale { .. }
        | QuantError::Granularity { .. }
        | QuantError::NotFinite { .. } => ErrorKind::Tensor,
    }
}
