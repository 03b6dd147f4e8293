//! Why a command failed, and the exit status that says so.

use std::fmt;
use std::io;

use bitnet_inference::Error;

/// A failure of a command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The engine's error.
    Engine(Error),
    /// Wrong use that the parser cannot see.
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
            Self::Usage(_)
            | Self::Engine(
                Error::InvalidOption { .. }
                | Error::EmptyPrompt
                | Error::Core(bitnet_core::Error::ThreadCount { .. }),
            ) => Self::USAGE,
            Self::Interrupted => 130,
            Self::Engine(_) | Self::Other(_) | Self::Output(_) => 1,
        }
    }

    /// The message, in one line whatever it quotes.
    pub(crate) fn line(&self) -> String {
        self.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::Usage(text) | Self::Other(text) => f.write_str(text),
            Self::Output(error) => write!(f, "standard output: {error}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<bitnet_core::Error> for Failure {
    fn from(error: bitnet_core::Error) -> Self {
        Self::Engine(error.into())
    }
}
