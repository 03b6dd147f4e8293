//! What can go wrong in training.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::checkpoint::Difference;

/// `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a file of texts and a trained model. Every message is one line that names the fact.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Files, tokenizers, templates, checkpoints.
    #[error(transparent)]
    Inference(#[from] bitnet_inference::Error),
    /// A file of training data is not what it must be.
    #[error("{}{}: {reason}", path.display(), Line(*line))]
    Data {
        /// The file.
        path: PathBuf,
        /// The line in it, from 1, where there are lines.
        line: Option<usize>,
        /// The fact.
        reason: String,
    },
    /// A checkpoint of a run is not what was written, or its folder is taken.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// The fact.
        reason: String,
    },
    /// A run cannot go on from a checkpoint of another.
    #[error("{}: cannot go on from here: {}", path.display(), Listed(differences))]
    Mismatch {
        /// The checkpoint.
        path: PathBuf,
        /// In what they differ.
        differences: Vec<Difference>,
    },
    /// The data has a token that the model does not have.
    #[error("{}: token {index} is {id}, outside the vocabulary of {vocab_size}", path.display())]
    TokenOutOfRange {
        /// The file.
        path: PathBuf,
        /// Which token, from 0.
        index: usize,
        /// Its id.
        id: i64,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// The data does not fill one sequence, or has nothing to learn in it.
    #[error(
        "the data has {tokens} tokens, which make no sequence of {seq_len}: it needs one token more than that"
    )]
    TooLittleData {
        /// Tokens of all files.
        tokens: u64,
        /// Inputs of a sequence.
        seq_len: usize,
    },
    /// Sequences are longer than the model was built for.
    #[error("sequences of {seq_len} tokens do not fit the context of the model, {context_length}")]
    SequenceLength {
        /// Inputs of a sequence.
        seq_len: usize,
        /// Positions the model was built for.
        context_length: usize,
    },
}

impl Error {
    /// An I/O error with the file it happened on.
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Inference(bitnet_inference::Error::io(path, source))
    }

    /// A fact about a checkpoint of a run.
    pub(crate) fn checkpoint(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.into(), reason: reason.into() }
    }

    /// A fact about a file of training data.
    pub(crate) fn data(path: &Path, reason: impl Into<String>) -> Self {
        Self::Data { path: path.to_owned(), line: None, reason: reason.into() }
    }

    /// A fact about a line of training data.
    pub(crate) fn line(path: &Path, line: usize, reason: impl Into<String>) -> Self {
        Self::Data { path: path.to_owned(), line: Some(line), reason: reason.into() }
    }
}

struct Listed<'a>(&'a [Difference]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, difference) in self.0.iter().enumerate() {
            write!(f, "{}{difference}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

struct Line(Option<usize>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ", line {line}"))
    }
}
