//! The instruction sets that kernels are written for, and which of them this CPU has.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use crate::{Error, Result};

/// An instruction set with kernels of its own.
///
/// All of them give the same results, bit for bit; they differ in speed only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust: the definition that every other one is tested against.
    Scalar,
    /// x86-64 with 128-bit vectors and byte shuffles (2008 and later).
    Sse41,
    /// x86-64 with 256-bit integer vectors (2013 and later).
    Avx2,
    /// x86-64 with 256-bit vectors and the int8 dot product `vpdpbusd` (Alder Lake and later).
    AvxVnni,
    /// x86-64 with 512-bit vectors and the int8 dot product `vpdpbusd` (Ice Lake, Zen 4 and later).
    Avx512Vnni,
    /// 64-bit ARM, any.
    Neon,
    /// 64-bit ARM with the int8 dot product `sdot` (Apple M1, Neoverse N1 and later).
    NeonDotprod,
    /// 64-bit ARM with the int8 matrix product `smmla` besides (Apple M2, Neoverse V1 and later).
    NeonI8mm,
}

impl Isa {
    /// Every instruction set, slowest first.
    pub const ALL: [Self; 8] = [
        Self::Scalar,
        Self::Sse41,
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512Vnni,
        Self::Neon,
        Self::NeonDotprod,
        Self::NeonI8mm,
    ];

    /// Name in `BITNET_ISA` and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Sse41 => "sse4.1",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512Vnni => "avx512vnni",
            Self::Neon => "neon",
            Self::NeonDotprod => "neon-dotprod",
            Self::NeonI8mm => "neon-i8mm",
        }
    }

    /// Whether this CPU, and the operating system on it, can run the kernels.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Sse41 => is_x86_feature_detected!("sse4.1"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm => {
                std::arch::is_aarch64_feature_detected!("dotprod")
                    && std::arch::is_aarch64_feature_detected!("i8mm")
            }
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod => std::arch::is_aarch64_feature_detected!("dotprod"),
            #[allow(unreachable_patterns, reason = "which arms remain depends on the architecture")]
            _ => false,
        }
    }

    /// The instruction sets of this CPU, slowest first. Never empty.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The one to use: what `BITNET_ISA` names, else the best this CPU has. Found once per process.
    ///
    /// Errors: [`Error::UnknownIsa`] and [`Error::IsaUnavailable`] when `BITNET_ISA` asks for what is not there.
    pub fn selected() -> Result<Self> {
        static SELECTED: LazyLock<Result<Isa>> = LazyLock::new(|| match std::env::var("BITNET_ISA") {
            Ok(name) if !name.is_empty() => name.parse::<Isa>()?.require(),
            _ => Ok(Isa::available().pop().unwrap_or(Isa::Scalar)),
        });
        SELECTED.clone()
    }

    /// This instruction set, if the CPU has it.
    pub fn require(self) -> Result<Self> {
        if self.is_available() {
            return Ok(self);
        }
        let available = join_names(&Self::available());
        Err(Error::IsaUnavailable { name: self.name(), available })
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| Error::UnknownIsa { name: name.to_owned(), known: join_names(&Self::ALL) })
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

fn join_names(isas: &[Isa]) -> String {
    isas.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().parse(), Ok(isa));
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = "sse9".parse::<Isa>().unwrap_err().to_string();
        let known = "scalar, sse4.1, avx2, avxvnni, avx512vnni, neon, neon-dotprod, neon-i8mm";
        assert_eq!(error, format!("unknown instruction set \"sse9\"; known: {known}"));
    }

    #[test]
    fn scalar_is_always_there_and_foreign_sets_never() {
        assert_eq!(Isa::available().first(), Some(&Isa::Scalar));
        let foreign = if cfg!(target_arch = "x86_64") { Isa::NeonDotprod } else { Isa::Avx2 };
        assert!(matches!(foreign.require(), Err(Error::IsaUnavailable { .. })));
    }
}
