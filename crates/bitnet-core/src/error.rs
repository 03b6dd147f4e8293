//! Errors of shapes, data types, devices and instruction sets.

use crate::{DType, Shape};

/// `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong below the level of models.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The number of bytes does not follow from data type and shape.
    #[error("a {dtype} tensor of shape {shape} takes {expected} bytes, not {got}")]
    ByteLength {
        /// Element type.
        dtype: DType,
        /// Shape claimed.
        shape: Shape,
        /// Bytes that follow from both.
        expected: usize,
        /// Bytes there are.
        got: usize,
    },
    /// The product of the dimensions does not fit a machine word.
    #[error("shape {0} has more elements than memory can address")]
    ShapeOverflow(Shape),
    /// A tensor has another element type than the operation takes.
    #[error("expected {expected}, the tensor is {got}")]
    DType {
        /// What the operation takes.
        expected: &'static str,
        /// What the tensor holds.
        got: DType,
    },
    /// `BITNET_ISA` or an option names an instruction set that does not exist.
    #[error("unknown instruction set {name:?}; known: {known}")]
    UnknownIsa {
        /// As written.
        name: String,
        /// All names.
        known: String,
    },
    /// The CPU lacks the instruction set asked for.
    #[error("this CPU has no {name}; it has: {available}")]
    IsaUnavailable {
        /// The one asked for.
        name: &'static str,
        /// The ones there are.
        available: String,
    },
    /// The operating system has no such block of memory.
    #[error("{bytes} bytes do not fit into memory")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// A device name that means nothing.
    #[error("unknown device {0:?}; known: auto, cpu")]
    UnknownDevice(String),
    /// A thread pool of no threads, or of absurdly many.
    #[error("threads must be between 1 and {max}, not {got}")]
    ThreadCount {
        /// Asked for.
        got: usize,
        /// Upper bound.
        max: usize,
    },
    /// The operating system refused to start a thread.
    #[error("cannot start a worker thread: {0}")]
    ThreadSpawn(String),
}
