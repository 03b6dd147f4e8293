//! Errors of quantization and packed layouts.

use crate::Granularity;

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
    /// A scale of a block that is negative or not finite, or zero over codes that are not.
    #[error("row {row}, column {col}: scale {scale} cannot stand for the codes of its block")]
    BlockScale {
        /// Row of the matrix.
        row: usize,
        /// First column of the block.
        col: usize,
        /// The scale as stored.
        scale: f32,
    },
    /// More scales than a format or a product takes.
    #[error("{what} takes {takes}; the matrix has {got}")]
    Granularity {
        /// A codec or a product.
        what: &'static str,
        /// The finest that it takes.
        takes: Granularity,
        /// What there is.
        got: Granularity,
    },
    /// A shape that does not divide into the blocks of a codec.
    #[error("{codec} stores blocks of {block} codes; {rows} x {cols} does not divide into them")]
    Blocks {
        /// The codec.
        codec: &'static str,
        /// Codes of a block.
        block: usize,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
    },
    /// A codec that does not exist.
    #[error("unknown format {name:?}; known: {known}")]
    UnknownCodec {
        /// As written.
        name: String,
        /// All names.
        known: String,
    },
    /// A value that cannot be quantized.
    #[error("row {row} has a value that is not finite")]
    NotFinite {
        /// First such row.
        row: usize,
    },
    /// Bits that whole numbers are not stored in.
    #[error("{0} bits: known are 2, 4 and 8")]
    InvalidBits(u8),
    /// A range that keeps nothing, or a share outside 0..=1.
    #[error("cannot clip at {0}: a magnitude must be positive, a quantile between 0 and 1")]
    InvalidClip(f64),
    /// A rule that does not exist.
    #[error("unknown rule {0:?}; known: absmean, absmedian, threshold, sign")]
    UnknownRule(String),
    /// A precision that does not exist.
    #[error("unknown precision {0:?}; known: absmean, absmedian, threshold, sign, int2, int4, int8, float")]
    UnknownPrecision(String),
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
