//! Everything that can go wrong while a model is trained.

use std::fmt;
use std::path::{Path, PathBuf};

use bitnet_core::Shape;

use crate::checkpoint::Difference;
use crate::guard::Trouble;

/// `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a file of texts and a trained model. Every message is one line that names the fact.
#[derive(Debug, thiserror::Error)]
#[allow(clippy::large_enum_variant, reason = "errors are cold")]
pub enum Error {
    /// Tensors and threads.
    #[error(transparent)]
    Core(#[from] bitnet_core::Error),
    /// Quantization.
    #[error(transparent)]
    Quant(#[from] bitnet_quant::Error),
    /// Files, tokenizers, templates, checkpoints.
    #[error(transparent)]
    Inference(#[from] bitnet_inference::Error),
    /// Two shapes that do not fit each other.
    #[error("{what}: expected shape {expected}, got {got}")]
    Shape {
        /// Of what.
        what: String,
        /// As it must be.
        expected: Shape,
        /// As it is.
        got: Shape,
    },
    /// A second backward pass through the same operations.
    #[error("these gradients were computed already, and what they need is gone; run the forward pass again")]
    Spent,
    /// A gradient of something that does not depend on any leaf.
    #[error("nothing here depends on a variable that wants a gradient")]
    NoGradient,
    /// A new value for what an operation computed.
    #[error("only the value of a leaf can be set; this one is computed")]
    Computed,
    /// A token outside of the vocabulary.
    #[error("token {id} is outside of the vocabulary of {vocab_size}")]
    Token {
        /// The token.
        id: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// A batch in which every target is ignored.
    #[error("no token of the batch has a target")]
    NoTargets,
    /// An option with a value it cannot have.
    #[error("{name} must be {expected}, not {got}")]
    InvalidOption {
        /// The option.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// A model that cannot be trained.
    #[error("cannot train {what}")]
    Unsupported {
        /// What the model has.
        what: String,
    },
    /// A model that the student cannot learn from.
    #[error("the teacher {0}")]
    Teacher(String),
    /// A named tensor that is needed and not there.
    #[error("tensor {0} is missing")]
    MissingTensor(String),
    /// A number that is none.
    #[error("{0} is not finite")]
    NotFinite(String),
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
    /// Going back with a lower learning rate has not helped.
    #[error(
        "training is given up behind step {step}: {trouble}, again and again, with ever lower learning rates"
    )]
    Diverged {
        /// Steps that were done.
        step: u64,
        /// What was wrong at last.
        trouble: Trouble,
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
