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
    /// A type name that means nothing.
    #[error("unknown data type {0:?}; known: f32, f16, bf16, i8, u8, i32, i64, bool, ternary")]
    UnknownDType(String),
    /// An operation that the element type does not have.
    #[error("there is no {operation} for {dtype}; {instead}")]
    Unsupported {
        /// The operation, as it is written.
        operation: &'static str,
        /// The type of both sides.
        dtype: DType,
        /// What to do about it.
        instead: &'static str,
    },
    /// A packed tensor where single elements are asked for.
    #[error("a ternary tensor is packed and read whole; convert it to i8 first")]
    Packed,
    /// An integer that the element type does not hold.
    #[error("{value} is out of range for {dtype}")]
    OutOfRange {
        /// The integer.
        value: i64,
        /// The type.
        dtype: DType,
    },
    /// An integer to the power of a negative one.
    #[error("an integer to a negative power is no integer; convert to a floating-point type")]
    NegativePower,
    /// Two shapes that do not fit each other.
    #[error("cannot {operation} shapes {a} and {b}")]
    Shapes {
        /// What was to be done with them.
        operation: &'static str,
        /// Of the first tensor.
        a: Shape,
        /// Of the second.
        b: Shape,
    },
    /// A shape of another number of elements, or a dimension to be dropped that is not 1.
    #[error("shape {from} cannot become {to}")]
    Reshape {
        /// As it is.
        from: Shape,
        /// As asked for.
        to: Shape,
    },
    /// Dimensions that no number of elements, or another, makes up.
    #[error("{elements} elements do not make up shape {dims:?}")]
    Inferred {
        /// As asked for, with -1 for what is left.
        dims: Vec<isize>,
        /// Elements there are.
        elements: usize,
    },
    /// A tensor of the wrong number of dimensions.
    #[error("{operation} wants {expected} dimensions, not shape {shape}")]
    Rank {
        /// The operation.
        operation: &'static str,
        /// Dimensions it wants.
        expected: usize,
        /// Shape given.
        shape: Shape,
    },
    /// A dimension that is not there.
    #[error("axis {axis} is out of range for {rank} dimensions")]
    Axis {
        /// As given, below 0 from the end.
        axis: isize,
        /// Dimensions there are.
        rank: usize,
    },
    /// A dimension named twice.
    #[error("axis {axis} is named twice")]
    RepeatedAxis {
        /// The second naming.
        axis: isize,
    },
    /// An index beyond its dimension.
    #[error("index {index} is out of range for axis {axis} of length {len}")]
    Index {
        /// As given, below 0 from the end.
        index: i64,
        /// The dimension.
        axis: usize,
        /// Its length.
        len: usize,
    },
    /// A step of 0, or none that leads from start to stop.
    #[error("a step must be other than 0, and finite")]
    ZeroStep,
    /// The greatest of no elements, or several of none.
    #[error("{operation} of no elements: the shape is {shape}")]
    Empty {
        /// The operation.
        operation: &'static str,
        /// Shape given.
        shape: Shape,
    },
    /// A number is asked of a tensor of several.
    #[error("a tensor of shape {shape} is not one number")]
    NotOne {
        /// Its shape.
        shape: Shape,
    },
    /// Strides that lead out of the memory.
    #[error(
        "shape {shape} with strides {strides:?} from element {offset} leaves the {elements} elements there are"
    )]
    View {
        /// Shape claimed.
        shape: Shape,
        /// Strides claimed, in elements.
        strides: Vec<isize>,
        /// The element that index 0, 0, ... names.
        offset: usize,
        /// Elements of the memory.
        elements: usize,
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
    /// A text that is no number of bytes.
    #[error("{0:?} is no number of bytes; write it like 4000000000, 512MB or 2GiB")]
    ByteSize(String),
    /// More than the pool may hold.
    #[error("{bytes} bytes more than the {held} in use go beyond the memory limit of {limit}")]
    MemoryLimit {
        /// Bytes asked for, as a whole block or region.
        bytes: usize,
        /// Bytes held already.
        held: usize,
        /// Bytes that may be held.
        limit: usize,
    },
    /// A device name that means nothing.
    #[error("unknown device {0:?}; known: auto, cpu, metal")]
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
