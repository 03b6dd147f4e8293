//! Which packing is faster on this machine: fewer bytes, or fewer operations.
#![expect(unsafe_code, reason = "calls code compiled for an instruction set")]

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bitnet_core::{Isa, Pages, ThreadPool, prefetch};

use super::{LANES, TernaryKernel};
use crate::packing::LINE;
use crate::{Error, Packing, Result};

/// Bytes that are read to find out. They may fit into the last cache, where a model does not: see [`prefetch::evict`].
const BYTES: usize = 32 << 20;
/// Weights below which a model stays in the caches, where two bits are always faster.
const SMALL: usize = 1 << 27;
/// Lines of a panel, as for 2560 columns.
const PANEL_LINES: usize = 640;
const RUNS: usize = 3;

impl TernaryKernel {
    /// The packing for a model of `weights` ternary weights: `asked`, else what `BITNET_PACKING` names, else what is
    /// faster here, measured once per process for a number of threads.
    ///
    /// Errors: [`Error::UnknownPacking`], [`Error::PackingUnavailable`].
    pub fn choose_packing(
        &self,
        pool: &ThreadPool,
        asked: Option<Packing>,
        weights: usize,
    ) -> Result<Packing> {
        static MEASURED: Mutex<Vec<(Isa, usize, Packing)>> = Mutex::new(Vec::new());
        if let Some(packing) = self.asked_packing(asked)? {
            return Ok(packing);
        }
        if weights < SMALL || !self.supports(Packing::Base3) {
            return Ok(Packing::Bits2);
        }
        let mut measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self.isa, pool.threads());
        if let Some((.., packing)) = measured.iter().find(|(isa, threads, _)| (*isa, *threads) == key) {
            return Ok(*packing);
        }
        let packing = self.faster_packing(pool)?;
        measured.push((key.0, key.1, packing));
        Ok(packing)
    }

    /// The packing that somebody asks for: an argument, else `BITNET_PACKING`.
    ///
    /// Errors: [`Error::UnknownPacking`], [`Error::PackingUnavailable`].
    pub fn asked_packing(&self, asked: Option<Packing>) -> Result<Option<Packing>> {
        let packing = match (asked, std::env::var("BITNET_PACKING")) {
            (Some(packing), _) => packing,
            (None, Ok(name)) if !name.is_empty() => name.parse()?,
            _ => return Ok(None),
        };
        if self.supports(packing) {
            return Ok(Some(packing));
        }
        Err(Error::PackingUnavailable { isa: self.isa.name(), packing: packing.name() })
    }

    fn faster_packing(&self, pool: &ThreadPool) -> Result<Packing> {
        let mut pages = Pages::zeroed(BYTES)?;
        // Any bytes will do: the time does not depend on them.
        pages.as_mut_slice().chunks_mut(LINE).enumerate().for_each(|(i, line)| line.fill(i as u8));
        let data = pages.as_ref();
        let x = [1_i8; 4 * PANEL_LINES];
        let weights_per_s = |packing: Packing| {
            let (kernels, _) = self.one_token(packing);
            let run = || {
                pool.split(BYTES, 1 << 20, |range| prefetch::evict(&data[range]));
                let start = Instant::now();
                pool.split(BYTES / (PANEL_LINES * LINE), 1, |panels| {
                    let mut out = [[0; 5 * LANES]];
                    for panel in panels {
                        let panel = &data[panel * PANEL_LINES * LINE..][..PANEL_LINES * LINE];
                        // SAFETY: `new` found the instruction set on this CPU.
                        unsafe { (kernels.dense)(panel, &[&x], &mut out) };
                        black_box(&out);
                    }
                });
                (BYTES * packing.digits()) as f64 / start.elapsed().as_secs_f64()
            };
            (0..RUNS).map(|_| run()).fold(0.0, f64::max)
        };
        let [bits2, base3] = Packing::ALL.map(weights_per_s);
        Ok(if base3 > bits2 { Packing::Base3 } else { Packing::Bits2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_model_takes_two_bits_and_a_large_one_what_there_is() {
        let pool = ThreadPool::new(2).unwrap();
        for isa in Isa::available() {
            let kernel = TernaryKernel::new(isa).unwrap();
            for asked in Packing::ALL {
                let chosen = kernel.choose_packing(&pool, Some(asked), 0);
                let is_there = kernel.supports(asked);
                assert_eq!(chosen.ok(), is_there.then_some(asked), "{isa}");
            }
            if std::env::var_os("BITNET_PACKING").is_none() {
                assert_eq!(kernel.choose_packing(&pool, None, 1000), Ok(Packing::Bits2));
                let large = kernel.choose_packing(&pool, None, usize::MAX).unwrap();
                assert!(kernel.supports(large));
                assert_eq!(kernel.choose_packing(&pool, None, usize::MAX), Ok(large), "it is remembered");
            }
        }
    }
}
