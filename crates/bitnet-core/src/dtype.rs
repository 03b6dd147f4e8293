//! Element types.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Shape};

/// Element type of a [`Tensor`](crate::Tensor).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary64, as files may store a scale: it is read by what knows it, and nothing computes with it.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// Signed byte.
    I8,
    /// Unsigned byte.
    U8,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// One byte, 0 or 1.
    Bool,
    /// -1, 0 or +1, four to a byte: the codes of a ternary matrix without its scale.
    ///
    /// A packed tensor is a matrix `[rows, cols]` of `ceil(rows / 4) * cols` bytes, `code = w + 1` in two bits: with `R =
    /// ceil(rows / 4)`, byte `(r, c)` holds column `c` of rows `r`, `r + R`, `r + 2R` and `r + 3R`, lowest bits first.
    /// It is read whole: it has no views, and `bitnet-quant` packs, unpacks and multiplies it.
    Ternary,
}

impl DType {
    /// Size in bytes of one element, or of what holds several packed ones.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool | Self::Ternary => 1,
            Self::F16 | Self::BF16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// Whether this is one of the floating-point types to compute with.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// All that can be asked for: not those that are only stored.
    pub const ALL: [Self; 9] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::I8,
        Self::U8,
        Self::I32,
        Self::I64,
        Self::Bool,
        Self::Ternary,
    ];

    /// Bytes of a contiguous tensor; nothing when they leave `usize`.
    ///
    /// Errors: [`Error::Rank`] for a packed type of another shape than a matrix.
    pub(crate) fn bytes_of(self, shape: &Shape) -> Result<Option<usize>, Error> {
        match (self, shape.dims()) {
            (Self::Ternary, &[rows, cols]) => Ok(rows.div_ceil(4).checked_mul(cols)),
            (Self::Ternary, _) => {
                Err(Error::Rank { operation: "a ternary tensor", expected: 2, shape: shape.clone() })
            }
            _ => Ok(shape.elements()?.checked_mul(self.size_bytes())),
        }
    }

    /// Its short name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Bool => "bool",
            Self::Ternary => "ternary",
        }
    }

    /// The name other libraries have for it.
    pub const fn long_name(self) -> &'static str {
        match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::Bool => "bool",
            Self::Ternary => "ternary",
        }
    }
}

/// By the short name or the long one.
impl FromStr for DType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let is_named = |dtype: &Self| name == dtype.name() || name == dtype.long_name();
        Self::ALL.into_iter().find(is_named).ok_or_else(|| Error::UnknownDType(name.to_owned()))
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
