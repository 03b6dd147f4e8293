//! Everything that can go wrong while a model is trained.

use bitnet_core::Shape;

/// `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while a model is trained.
#[derive(Debug, thiserror::Error)]
#[allow(clippy::large_enum_variant, reason = "errors are cold")]
pub enum Error {
    /// Tensors and threads.
    #[error(transparent)]
    Core(#[from] bitnet_core::Error),
    /// Quantization.
    #[error(transparent)]
    Quant(#[from] bitnet_quant::Error),
    /// Configs and checkpoints.
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
    /// A named tensor that is needed and not there.
    #[error("tensor {0} is missing")]
    MissingTensor(String),
    /// A number that is none.
    #[error("{0} is not finite")]
    NotFinite(String),
}
