//! The integer product of ternary weights and int8 activations.
//!
//! Kernels multiply codes `t = w + 1`, which are not negative, and the sum of the activations is subtracted once a
//! row: `W_q . x_q = t . x_q - sum(x_q)`. All sums are exact in 32-bit integers, so every instruction set, layout and
//! number of threads gives the same bits; [`definition`] says which.
//!
//! Each algorithm is written once over the trait of `vector.rs` and compiled for every instruction set (`table.rs`):
//!
//! | file | product | layout |
//! |---|---|---|
//! | `dense.rs` | few tokens, all rows | [`crate::Order::Panels`] |
//! | `sparse_rows.rs` | one token, some rows | [`crate::Order::Rows`] |
//! | `sparse_columns.rs` | one token, some columns | [`crate::Order::Columns`] |
//! | `tile.rs`, `unpack.rs` | many tokens | any |
//! | `planes.rs` | one token, rows of three bits and of one | [`crate::CompactRows`] |

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod choose;
mod dense;
mod finish;
mod peak;
pub(crate) mod planes;
mod portable;
mod product;
mod self_test;
mod sparse;
mod sparse_columns;
mod sparse_rows;
mod table;
mod tile;
mod unpack;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use bitnet_core::Isa;
pub use finish::Then;
pub use peak::int8_peak_gmac_s;
pub use product::Product;
pub use self_test::{SelfTest, self_test};
pub use sparse::SparseScratch;

use self::table::Table;
use crate::{Error, Packing, QuantizedActivations, Result, TernaryMatrix};

/// 32-bit sums in a line.
const LANES: usize = 16;
/// How far ahead of its use a line is asked for, first from memory, then from the second-level cache. An Intel Xeon with
/// AVX-512 reads 10.5 GB/s a core with one hint at any distance, which are its 16 line buffers, and 12 to 13 with two.
/// An AMD EPYC of family 26 reads 32.7 GB/s of panels with the near one 1 KiB ahead, and 37 to 39 with 4 to 8 KiB.
const NEAR: usize = 8 << 10;
const FAR: usize = 16 << 10;
/// Steps of four columns that sums in base 3 take: `4 * 255 * 128 * 4 * 4096` is below 2^31.
const BASE3_STEPS: usize = 1 << 12;
/// Sums stay below 2^31 up to here: `2 * 128 * cols`.
const MAX_COLS: usize = 1 << 22;

/// `sum of t_k x` from the sums of `v_k x` and `v_(k+1) x`; see `dense.rs`.
#[inline(always)]
fn digit_sum(this: i32, next: i32) -> i32 {
    this.wrapping_mul(3).wrapping_sub(next) >> 8
}

/// The kernels of one instruction set. Having one proves that the CPU can run them.
#[derive(Debug, Clone, Copy)]
pub struct TernaryKernel {
    isa: Isa,
    table: &'static Table,
}

impl TernaryKernel {
    /// The kernels for `isa`, if this CPU has it.
    pub fn new(isa: Isa) -> Result<Self> {
        let table = match isa.require()? {
            #[cfg(target_arch = "x86_64")]
            Isa::Sse41 => &x86_64::sse41::TABLE,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &x86_64::avx2::TABLE,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => &x86_64::avxvnni::TABLE,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => &x86_64::avx512vnni::TABLE,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &aarch64::neon::TABLE,
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod => &aarch64::dotprod::TABLE,
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => &aarch64::i8mm::TABLE,
            _ => &portable::TABLE,
        };
        Ok(Self { isa, table })
    }

    /// The instruction set of these kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Whether the kernels read a packing.
    pub fn supports(&self, packing: Packing) -> bool {
        packing == Packing::Bits2 || self.table.base3.is_some()
    }
}

/// `W_q . x_q` written out: unpacked codes, 64-bit sums, `[tokens, rows]`. What every kernel must equal bit for bit.
pub fn definition(w: &TernaryMatrix, x: &QuantizedActivations) -> Vec<i32> {
    let mut out = Vec::with_capacity(x.tokens() * w.rows());
    for token in 0..x.tokens() {
        for row in 0..w.rows() {
            let sum: i64 =
                w.row_codes(row).zip(x.token(token)).map(|(w, &x)| i64::from(w) * i64::from(x)).sum();
            out.push(i32::try_from(sum).expect("rows are shorter than 2^23"));
        }
    }
    out
}

fn check_lengths(rows: usize, cols: usize, x: &QuantizedActivations, out: usize) -> Result<()> {
    check_cols(cols, x.cols())?;
    check_len("output", rows.saturating_mul(x.tokens()), out)
}

fn check_cols(cols: usize, x_cols: usize) -> Result<()> {
    check_len("columns of x", cols, x_cols)?;
    if cols > MAX_COLS {
        return Err(Error::Length { what: "columns, at most", expected: MAX_COLS, got: cols });
    }
    Ok(())
}

fn check_len(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::Length { what, expected, got }) }
}

#[cfg(test)]
mod tests;
