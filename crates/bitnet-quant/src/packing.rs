//! How many codes a byte holds, and which.
//!
//! Codes are `t = w + 1` in {0, 1, 2}. A packed byte holds one code of each of several *digits*: rows or columns that
//! lie a fixed distance apart (see [`crate::packed`]).

use std::fmt;
use std::str::FromStr;

/// Bytes of weights that are handled as one: a cache line, and a vector of the widest instruction set.
pub const LINE: usize = 64;

/// Codes per byte of prepared weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// Four codes of two bits, `byte = t_0 + 4 t_1 + 16 t_2 + 64 t_3`: cheap to take apart.
    Bits2,
    /// Five codes in base 3: with `n = 81 t_0 + 27 t_1 + 9 t_2 + 3 t_3 + t_4`, `byte = ceil(256 n / 243)`. A fifth
    /// fewer bytes.
    ///
    /// The byte is the fraction `n / 243` in units of 1/256, rounded up, so that multiplying by 3 moves the codes out
    /// at the top one after another: `v_0 = byte`, `t_k = floor(3 v_k / 256)`, `v_(k+1) = 3 v_k mod 256`. Source of
    /// the code: `TQ1_0` of llama.cpp, `ggml-quants.c`.
    Base3,
}

impl Packing {
    /// Every packing, the larger one first.
    pub const ALL: [Self; 2] = [Self::Bits2, Self::Base3];

    /// Name in `BITNET_PACKING` and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bits2 => "bits2",
            Self::Base3 => "base3",
        }
    }

    /// Codes in a byte.
    pub const fn digits(self) -> usize {
        match self {
            Self::Bits2 => 4,
            Self::Base3 => 5,
        }
    }

    /// The byte of `digits()` codes.
    #[inline(always)]
    pub(crate) fn encode(self, codes: [u8; 5]) -> u8 {
        let [a, b, c, d, e] = codes;
        match self {
            Self::Bits2 => a | b << 2 | c << 4 | d << 6,
            Self::Base3 => {
                let n = 81 * a + 27 * b + 9 * c + 3 * d + e;
                // ceil(256 n / 243) = n + ceil(13 n / 243), the quotient by a multiplication, exact up to 242.
                n + ((u32::from(n) * 3507) >> 16) as u8 + u8::from(n != 0)
            }
        }
    }

    /// The code of one digit of a byte.
    #[inline(always)]
    pub(crate) fn decode(self, byte: u8, digit: usize) -> u8 {
        match self {
            Self::Bits2 => byte >> (2 * digit) & 3,
            Self::Base3 => {
                const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
                ((u16::from(byte.wrapping_mul(POWERS[digit])) * 3) >> 8) as u8
            }
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Packing {
    type Err = crate::Error;

    fn from_str(name: &str) -> crate::Result<Self> {
        Self::ALL
            .into_iter()
            .find(|packing| packing.name() == name)
            .ok_or_else(|| crate::Error::UnknownPacking(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_codes_comes_back() {
        for n in 0..243_u16 {
            let codes = [81, 27, 9, 3, 1].map(|power| (n / power % 3) as u8);
            let byte = Packing::Base3.encode(codes);
            assert_eq!(u16::from(byte), (256 * n).div_ceil(243));
            for packing in Packing::ALL {
                let byte = packing.encode(codes);
                for digit in 0..packing.digits() {
                    assert_eq!(packing.decode(byte, digit), codes[digit], "{packing} {codes:?}");
                }
            }
        }
    }

    #[test]
    fn names_round_trip() {
        for packing in Packing::ALL {
            assert_eq!(packing.name().parse(), Ok(packing));
        }
        let error = "tq9".parse::<Packing>().unwrap_err().to_string();
        assert_eq!(error, "unknown packing \"tq9\"; known: bits2, base3");
    }
}
