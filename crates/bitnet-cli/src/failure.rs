//! Why a command failed, and the exit status that says so.

use std::fmt;
use std::io;

use bitnet_core::Error as CoreError;
use bitnet_inference::Error;

/// A failure of a command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error of the library.
    Library(Error),
    /// A use that cannot be, in one line.
    Usage(String),
    /// Something else, in one line.
    Other(String),
    /// Standard output did not take what was written.
    Output(io::Error),
    /// Ctrl-C.
    Interrupted,
}

impl Failure {
    /// Exit status of a wrong use, as clap has it.
    pub(crate) const USAGE: u8 = 2;

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Library(
                Error::InvalidOption { .. }
                | Error::Constraint { .. }
                | Error::EmptyPrompt
                | Error::Core(CoreError::ThreadCount { .. }),
            )
            | Self::Usage(_) => Self::USAGE,
            Self::Output(_) if self.is_closed_pipe() => 0,
            Self::Library(_) | Self::Other(_) | Self::Output(_) => 1,
            // 128 and the number of the signal, as a shell has it.
            Self::Interrupted => 130,
        }
    }

    /// Whether there is nothing to say: who closed the pipe has enough, who pressed Ctrl-C knows.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Interrupted) || self.is_closed_pipe()
    }

    fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // In the words of the command line.
            Self::Library(Error::InvalidOption { name, expected, got }) => {
                write!(f, "--{} must be {expected}, not {got}", name.replace('_', "-"))
            }
            Self::Library(Error::Constraint { name, reason }) => {
                write!(f, "--{}: {reason}", name.replace('_', "-"))
            }
            Self::Library(Error::Lossy { path, reason }) => {
                write!(f, "{}: {reason}; --lossy allows that", path.display())
            }
            Self::Library(error @ Error::PackedWeights { .. }) => write!(f, "{error}, as --reference"),
            // No option asks for an instruction set.
            Self::Library(Error::Core(
                error @ (CoreError::UnknownIsa { .. } | CoreError::IsaUnavailable { .. }),
            )) => write!(f, "BITNET_ISA: {error}"),
            Self::Library(error) => error.fmt(f),
            Self::Usage(text) | Self::Other(text) => f.write_str(text),
            Self::Output(error) => write!(f, "standard output: {error}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

impl From<bitnet_training::Error> for Failure {
    fn from(error: bitnet_training::Error) -> Self {
        use bitnet_training::Error as Training;
        match error {
            Training::Inference(Error::Stopped { .. }) => Self::Interrupted,
            Training::Inference(error) => error.into(),
            Training::Core(error) => error.into(),
            Training::InvalidOption { name, expected, got } => {
                Self::Library(Error::InvalidOption { name, expected, got })
            }
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<bitnet_core::Error> for Failure {
    fn from(error: bitnet_core::Error) -> Self {
        Self::Library(error.into())
    }
}
