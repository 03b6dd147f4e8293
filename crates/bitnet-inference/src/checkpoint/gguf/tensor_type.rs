//! Element types of tensors: their numbers, names and sizes.
//!
//! Sources: ggml.h and ggml-common.h of llama.cpp; ggml-common.h of `ik_llama.cpp` (`IQ1_BN`, `IQ2_BN`, `IQ2_BN_R4`);
//! bitnet.cpp, `src/ggml-bitnet-mad.cpp` (`I2_S`).

use bitnet_core::DType;
use bitnet_quant::Codec;

use super::interleaved;

/// How a tensor is encoded, by ggml's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "the names are those of ggml")]
pub(crate) enum TensorType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q8_0,
    Q4_K,
    Q6_K,
    I2_S,
    TQ1_0,
    TQ2_0,
    Q2_0,
    IQ1_BN,
    IQ2_BN,
    IQ2_BN_R4,
}

/// What a type's number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// A type that is read.
    Known(TensorType),
    /// A type that is not, by name.
    Unsupported(&'static str),
    /// 39: `TL2` in files of bitnet.cpp, `MXFP4` in those of llama.cpp.
    Tl2OrMxfp4,
    /// No type.
    Unknown,
}

impl TensorType {
    /// The type of a number.
    pub(super) fn of(number: u32) -> Number {
        use Number::{Known, Unsupported};
        match number {
            0 => Known(Self::F32),
            1 => Known(Self::F16),
            2 => Known(Self::Q4_0),
            8 => Known(Self::Q8_0),
            12 => Known(Self::Q4_K),
            14 => Known(Self::Q6_K),
            30 => Known(Self::BF16),
            34 => Known(Self::TQ1_0),
            35 => Known(Self::TQ2_0),
            36 => Known(Self::I2_S),
            42 => Known(Self::Q2_0),
            134 => Known(Self::IQ1_BN),
            135 => Known(Self::IQ2_BN),
            335 => Known(Self::IQ2_BN_R4),
            3 => Unsupported("Q4_1"),
            6 => Unsupported("Q5_0"),
            7 => Unsupported("Q5_1"),
            9 => Unsupported("Q8_1"),
            10 => Unsupported("Q2_K"),
            11 => Unsupported("Q3_K"),
            13 => Unsupported("Q5_K"),
            15 => Unsupported("Q8_K"),
            16..=23 | 29 => Unsupported("one of the IQ types"),
            24..=27 => Unsupported("a type of integers"),
            28 => Unsupported("F64"),
            31..=33 => Unsupported("a repacked Q4_0"),
            37 => Unsupported("I8_S"),
            38 => Unsupported("TL1"),
            39 => Number::Tl2OrMxfp4,
            40 => Unsupported("NVFP4"),
            41 => Unsupported("Q1_0"),
            _ => Number::Unknown,
        }
    }

    /// Its number in a file.
    pub(super) fn number(self) -> u32 {
        (0..=335).find(|&number| Self::of(number) == Number::Known(self)).expect("every type has a number")
    }

    /// Name, as ggml has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q8_0 => "Q8_0",
            Self::Q4_K => "Q4_K",
            Self::Q6_K => "Q6_K",
            Self::I2_S => "I2_S",
            Self::TQ1_0 => "TQ1_0",
            Self::TQ2_0 => "TQ2_0",
            Self::Q2_0 => "Q2_0",
            Self::IQ1_BN => "IQ1_BN",
            Self::IQ2_BN => "IQ2_BN",
            Self::IQ2_BN_R4 => "IQ2_BN_R4",
        }
    }

    /// The codec of a type whose weights are -1, 0 and +1 times a scale; of `I2_S` that of the published files, of
    /// `IQ2_BN_R4` that of its rows one after another.
    pub(super) fn codec(self) -> Option<Codec> {
        Some(match self {
            Self::I2_S => Codec::I2S,
            Self::TQ1_0 => Codec::Tq1_0,
            Self::TQ2_0 => Codec::Tq2_0,
            Self::Q2_0 => Codec::Q2_0,
            Self::IQ1_BN => Codec::Iq1Bn,
            Self::IQ2_BN | Self::IQ2_BN_R4 => Codec::Iq2Bn,
            Self::F32 | Self::F16 | Self::BF16 | Self::Q4_0 | Self::Q8_0 | Self::Q4_K | Self::Q6_K => {
                return None;
            }
        })
    }

    /// The type of numbers that stand one by one.
    pub(super) fn dtype(self) -> Option<DType> {
        match self {
            Self::F32 => Some(DType::F32),
            Self::F16 => Some(DType::F16),
            Self::BF16 => Some(DType::BF16),
            _ => None,
        }
    }

    /// Weights of a block, which lie within a row (`I2_S`: within the tensor), and its bytes.
    pub(crate) fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q8_0 => (32, 34),
            Self::Q4_K => (256, 144),
            Self::Q6_K => (256, 210),
            Self::I2_S => (128, 32),
            Self::TQ1_0 => (256, 54),
            Self::TQ2_0 => (256, 66),
            Self::Q2_0 => (64, 18),
            Self::IQ1_BN => (64, 13),
            Self::IQ2_BN | Self::IQ2_BN_R4 => (64, 16),
        }
    }

    /// Bytes in front of every row, which hold its scale.
    fn row_header(self) -> usize {
        match self {
            Self::IQ1_BN => 2,
            Self::IQ2_BN | Self::IQ2_BN_R4 => 4,
            _ => 0,
        }
    }

    /// Bytes behind the last row: the scale of an `I2_S` tensor, padded.
    pub(super) fn tail(self) -> usize {
        if self == Self::I2_S { 32 } else { 0 }
    }

    /// Bytes of a tensor; `None` when its rows are not whole blocks, or groups of rows, or the size is beyond a machine word.
    pub(super) fn size_bytes(self, rows: usize, cols: usize) -> Option<usize> {
        let (weights, bytes) = self.block();
        let (rows, cols) = if self == Self::I2_S { (1, rows.checked_mul(cols)?) } else { (rows, cols) };
        let is_whole = self != Self::IQ2_BN_R4 || rows.is_multiple_of(interleaved::ROWS);
        if !cols.is_multiple_of(weights) || !is_whole {
            return None;
        }
        let row = (cols / weights).checked_mul(bytes)?.checked_add(self.row_header())?;
        row.checked_mul(rows)?.checked_add(self.tail())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_from_blocks() {
        let size = |tensor_type: TensorType| tensor_type.size_bytes(4, 256);
        assert_eq!(size(TensorType::F32), Some(4096));
        assert_eq!(size(TensorType::I2_S), Some(256 + 32));
        assert_eq!(size(TensorType::TQ1_0), Some(4 * 54));
        assert_eq!(size(TensorType::TQ2_0), Some(4 * 66));
        assert_eq!(size(TensorType::Q2_0), Some(4 * 72));
        assert_eq!(size(TensorType::IQ1_BN), Some(4 * 54));
        assert_eq!(size(TensorType::IQ2_BN), Some(4 * 68));
        assert_eq!(size(TensorType::IQ2_BN_R4), Some(4 * 68));
        assert_eq!(TensorType::IQ2_BN_R4.size_bytes(6, 256), None);
        assert_eq!(size(TensorType::Q6_K), Some(4 * 210));
        assert_eq!(TensorType::TQ2_0.size_bytes(4, 128), None);
        // The blocks of I2_S may go from one row into the next.
        assert_eq!(TensorType::I2_S.size_bytes(4, 64), Some(64 + 32));
        assert_eq!(TensorType::F32.size_bytes(usize::MAX, 2), None);
    }

    #[test]
    fn numbers_are_those_of_ggml() {
        assert_eq!(TensorType::I2_S.number(), 36);
        assert_eq!(TensorType::IQ2_BN.number(), 135);
        assert_eq!(TensorType::IQ2_BN_R4.number(), 335);
        assert_eq!(TensorType::of(43), Number::Unknown);
    }
}
