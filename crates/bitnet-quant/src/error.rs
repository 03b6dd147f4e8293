//! Errors of quantization and packed layouts.

/// `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while quantizing, unpacking or multiplying.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A length that does not follow from the shape.
    #[error("{what}: expected {expected}, got {got}")]
    Length {
        /// Which length.
        what: &'static str,
        /// What follows from the shape.
        expected: usize,
        /// What there is.
        got: usize,
    },
    /// A packed code, or an unpacked value, that is none of -1, 0, +1.
    #[error("row {row}, column {col}: {code} is not a ternary code")]
    InvalidCode {
        /// Row of the matrix.
        row: usize,
        /// Column of the matrix.
        col: usize,
        /// The value as stored.
        code: i16,
    },
    /// A scale that is zero, negative or not finite.
    #[error("weight scale {0} is not a positive finite number")]
    InvalidScale(f32),
    /// A value that cannot be quantized.
    #[error("row {row} has a value that is not finite")]
    NotFinite {
        /// First such row.
        row: usize,
    },
    /// A packing that does not exist.
    #[error("unknown packing {0:?}; known: bits2, base3")]
    UnknownPacking(String),
    /// A packing that the kernels of the instruction set cannot read.
    #[error("the {isa} kernels have no {packing} packing")]
    PackingUnavailable {
        /// The instruction set.
        isa: &'static str,
        /// The packing.
        packing: &'static str,
    },
    /// The instruction set is not there.
    #[error(transparent)]
    Core(#[from] bitnet_core::Error),
}
