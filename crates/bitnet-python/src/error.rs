//! Rust errors as the exceptions of `bitnet_rust._errors`.

use std::io;
use std::path::Path;

use bitnet_inference::Error;
use bitnet_inference::monitor::ErrorKind;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// What may end a long call: an error of the library, or an exception such as `KeyboardInterrupt`.
pub(crate) enum Failure {
    Library(Error),
    Training(bitnet_training::Error),
    Python(PyErr),
}

impl Failure {
    /// Whether it is no error, but a wish to stop: `KeyboardInterrupt` and its like.
    pub(crate) fn is_interrupt(&self, py: Python<'_>) -> bool {
        matches!(self, Self::Python(error) if !error.is_instance_of::<PyException>(py))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl From<bitnet_quant::Error> for Failure {
    fn from(error: bitnet_quant::Error) -> Self {
        Self::Library(error.into())
    }
}

impl From<bitnet_core::Error> for Failure {
    fn from(error: bitnet_core::Error) -> Self {
        Self::Library(error.into())
    }
}

impl From<bitnet_training::Error> for Failure {
    fn from(error: bitnet_training::Error) -> Self {
        Self::Training(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Library(error) => Python::attach(|py| to_exception(py, &error)),
            Failure::Training(error) => Python::attach(|py| training_exception(py, &error)),
            Failure::Python(error) => error,
        }
    }
}

/// An exception of `bitnet_rust._errors` by its name.
pub(crate) fn exception(class: &str, message: &str) -> PyErr {
    Python::attach(|py| new(py, class, (message,)))
}

fn new<'py, A>(py: Python<'py>, class: &str, args: A) -> PyErr
where
    A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
{
    let make = || py.import("bitnet_rust._errors")?.getattr(class)?.call1(args.into_pyobject(py)?);
    make().map_or_else(|error| error, PyErr::from_value)
}

fn to_exception(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error {
        Error::Io { path, source } => return io_exception(py, path, source),
        Error::Shared(error) => return to_exception(py, error),
        Error::Core(error) => core_class(error),
        Error::Quant(error) => quant_class(error),
        Error::ModelNotFound { .. } => "ModelNotFoundError",
        Error::Checkpoint { .. }
        | Error::Gguf { .. }
        | Error::MissingTensor { .. }
        | Error::NotFinite { .. }
        | Error::PackedWeights { .. }
        | Error::Lossy { .. } => "CheckpointError",
        Error::Config { .. } | Error::UnknownArchitecture { .. } => "ConfigError",
        Error::Tokenizer { .. } => "TokenizerError",
        Error::ChatTemplate { .. } => "ChatTemplateError",
        Error::EmptyPrompt | Error::TokenOutOfRange { .. } | Error::TextTooShort { .. } => "PromptError",
        Error::ContextLength { .. } => "ContextLengthError",
        Error::InvalidOption { .. } | Error::Constraint { .. } => "OptionError",
        Error::Stopped { .. } | Error::Unsupported { .. } => "BitNetError",
        Error::Hub { .. } => "HubError",
        Error::OutOfMemory { .. } | Error::ModelCacheFull { .. } => "OutOfMemoryError",
        Error::Metal(_) if error.kind() == ErrorKind::OutOfMemory => "OutOfMemoryError",
        Error::Backend { .. } | Error::Metal(_) => "DeviceError",
        Error::QueueFull { .. } => "QueueFullError",
        Error::EngineClosed => "EngineClosedError",
    };
    new(py, class, (error.to_string(),))
}

fn training_exception(py: Python<'_>, error: &bitnet_training::Error) -> PyErr {
    use bitnet_training::Error;
    let class = match error {
        Error::Inference(error) => return to_exception(py, error),
        Error::Core(error) => core_class(error),
        Error::Quant(error) => quant_class(error),
        Error::Shape { .. } => "ShapeError",
        Error::Spent | Error::NoGradient | Error::Computed => "GradientError",
        Error::Token { .. } => "OutOfRangeError",
        Error::InvalidOption { .. } | Error::SequenceLength { .. } | Error::Teacher(_) => "OptionError",
        Error::NotFinite(_) => "QuantizationError",
        Error::Unsupported { .. } => "BitNetError",
        Error::MissingTensor(_) | Error::Checkpoint { .. } | Error::Mismatch { .. } => "CheckpointError",
        Error::NoTargets
        | Error::Data { .. }
        | Error::TokenOutOfRange { .. }
        | Error::TooLittleData { .. } => "DataError",
        Error::Diverged { .. } => "DivergedError",
    };
    new(py, class, (error.to_string(),))
}

fn core_class(error: &bitnet_core::Error) -> &'static str {
    use bitnet_core::Error;
    match error {
        Error::ByteLength { .. }
        | Error::ShapeOverflow(_)
        | Error::Shapes { .. }
        | Error::Reshape { .. }
        | Error::Inferred { .. }
        | Error::Rank { .. }
        | Error::Axis { .. }
        | Error::RepeatedAxis { .. }
        | Error::Empty { .. }
        | Error::NotOne { .. }
        | Error::View { .. } => "ShapeError",
        Error::DType { .. } | Error::UnknownDType(_) | Error::Unsupported { .. } | Error::Packed => {
            "DTypeError"
        }
        Error::Index { .. } => "OutOfRangeError",
        Error::OutOfRange { .. }
        | Error::NegativePower
        | Error::ZeroStep
        | Error::ByteSize(_)
        | Error::UnknownDevice(_)
        | Error::ThreadCount { .. } => "OptionError",
        Error::OutOfMemory { .. } | Error::MemoryLimit { .. } => "OutOfMemoryError",
        Error::UnknownIsa { .. } | Error::IsaUnavailable { .. } | Error::ThreadSpawn(_) => "DeviceError",
    }
}

fn quant_class(error: &bitnet_quant::Error) -> &'static str {
    use bitnet_quant::Error;
    match error {
        Error::Core(error) => core_class(error),
        Error::Length { .. } | Error::Blocks { .. } => "ShapeError",
        Error::UnknownPacking(_)
        | Error::UnknownCodec { .. }
        | Error::UnknownRule(_)
        | Error::UnknownPrecision(_)
        | Error::InvalidBits(_)
        | Error::InvalidClip(_) => "OptionError",
        Error::PackingUnavailable { .. } => "DeviceError",
        Error::InvalidCode { .. }
        | Error::InvalidScale(_)
        | Error::BlockScale { .. }
        | Error::Granularity { .. }
        | Error::NotFinite { .. } => "QuantizationError",
    }
}

/// `OSError(errno, strerror, filename)` of the class that fits.
fn io_exception(py: Python<'_>, path: &Path, source: &io::Error) -> PyErr {
    let class = match source.kind() {
        io::ErrorKind::NotFound => "MissingFileError",
        io::ErrorKind::PermissionDenied => "FilePermissionError",
        _ => "FileError",
    };
    match source.raw_os_error() {
        Some(errno) => {
            let text = source.to_string();
            let reason = text.split(" (os error").next().unwrap_or_default().to_owned();
            new(py, class, (errno, reason, path.as_os_str()))
        }
        None => new(py, class, (format!("{}: {source}", path.display()),)),
    }
}
