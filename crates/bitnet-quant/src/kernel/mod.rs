//! The integer product of packed ternary weights and int8 activations.
//!
//! A packed row of `cols` bytes holds four rows of codes `c = w + 1` (see [`crate::ternary`]). For an activation
//! vector `x` a kernel computes, for lane `i` in 0..4,
//!
//! ```text
//! dot[i] = sum over columns of  c_i[col] * x[col]          c_i[col] = byte[col] >> 2i & 3
//! ```
//!
//! from which `W_q . x_q = dot[i] - sum(x)`. All codes are unsigned and all products exact in 32-bit integers:
//! `|dot| <= 2 * 128 * cols`. The form with four tokens unpacks each byte once for all of them; that is what makes
//! prefill faster than decoding. [`mod@reference`] is the definition; every other module must equal it bit for bit.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod peak;
pub mod reference;
mod self_test;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::ops::Range;

use bitnet_core::{DisjointSlice, Isa, ThreadPool};
pub use peak::int8_peak_gmac_s;
pub use self_test::{SelfTest, self_test};

use crate::ternary::CODES_PER_BYTE;
use crate::{Error, QuantizedActivations, Result, TernaryMatrix};

/// One packed row with one activation vector.
type Dot1 = unsafe fn(&[u8], &[i8]) -> [i32; CODES_PER_BYTE];
/// One packed row with four activation vectors.
type Dot4 = unsafe fn(&[u8], [&[i8]; TOKEN_GROUP]) -> [[i32; CODES_PER_BYTE]; TOKEN_GROUP];

/// Tokens that share one unpacking.
const TOKEN_GROUP: usize = 4;
/// Tokens whose activations stay in the second-level cache while a thread walks its rows.
const TOKEN_BLOCK: usize = 64;
/// Sums stay below 2^31 up to here: `2 * 128 * cols`.
const MAX_COLS: usize = 1 << 22;

/// The kernels of one instruction set. Having one proves that the CPU can run them.
#[derive(Debug, Clone, Copy)]
pub struct TernaryKernel {
    isa: Isa,
    dot1: Dot1,
    dot4: Dot4,
}

impl TernaryKernel {
    /// The kernels for `isa`, if this CPU has it.
    pub fn new(isa: Isa) -> Result<Self> {
        let (dot1, dot4): (Dot1, Dot4) = match isa.require()? {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => (x86_64::avx2::dot1, x86_64::avx2::dot4),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => (x86_64::avx512vnni::dot1, x86_64::avx512vnni::dot4),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod => (aarch64::dotprod::dot1, aarch64::dotprod::dot4),
            _ => (reference::dot1, reference::dot4),
        };
        Ok(Self { isa, dot1, dot4 })
    }

    /// The instruction set of these kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// `out[t, r] = W_q[r] . x_q[t]` in 32-bit integers, `[tokens, rows]`.
    ///
    /// Errors: [`Error::Length`] when columns or output do not fit.
    #[expect(unsafe_code, reason = "threads write disjoint outputs")]
    pub fn matmul_i32(
        &self,
        pool: &ThreadPool,
        w: &TernaryMatrix,
        x: &QuantizedActivations,
        out: &mut [i32],
    ) -> Result<()> {
        check_lengths(w, x, out.len())?;
        let rows = w.rows();
        let out = DisjointSlice::new(out);
        self.for_each_sum(pool, w, x, |token, row, sum| {
            // SAFETY: every pair of token and row is visited once, by one thread.
            unsafe { out.write(token * rows + row, sum) };
        });
        Ok(())
    }

    /// `out[t, r] = W_q[r] . x_q[t] * weight_scale / activation_scale[t] (+ bias[r])`, `[tokens, rows]`.
    ///
    /// Errors: [`Error::Length`] when columns, bias or output do not fit.
    #[expect(unsafe_code, reason = "threads write disjoint outputs")]
    pub fn matmul(
        &self,
        pool: &ThreadPool,
        w: &TernaryMatrix,
        x: &QuantizedActivations,
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) -> Result<()> {
        check_lengths(w, x, out.len())?;
        let rows = w.rows();
        if let Some(bias) = bias.filter(|bias| bias.len() != rows) {
            return Err(Error::Length { what: "bias", expected: rows, got: bias.len() });
        }
        let out = DisjointSlice::new(out);
        self.for_each_sum(pool, w, x, |token, row, sum| {
            let scaled = sum as f32 * (w.scale() / x.scales()[token]);
            let value = bias.map_or(scaled, |bias| scaled + bias[row]);
            // SAFETY: every pair of token and row is visited once, by one thread.
            unsafe { out.write(token * rows + row, value) };
        });
        Ok(())
    }

    /// Calls `emit(token, row, W_q[row] . x_q[token])` once for every pair, from the threads of `pool`.
    fn for_each_sum(
        &self,
        pool: &ThreadPool,
        w: &TernaryMatrix,
        x: &QuantizedActivations,
        emit: impl Fn(usize, usize, i32) + Sync,
    ) {
        pool.split(w.packed_rows(), 4, |packed_rows| {
            let mut tokens = 0..0;
            while tokens.end < x.tokens() {
                tokens = tokens.end..(tokens.end + TOKEN_BLOCK).min(x.tokens());
                for packed_row in packed_rows.clone() {
                    self.packed_row(w, x, packed_row, tokens.clone(), &emit);
                }
            }
        });
    }

    #[expect(unsafe_code, reason = "calls code compiled for an instruction set")]
    fn packed_row(
        &self,
        w: &TernaryMatrix,
        x: &QuantizedActivations,
        packed_row: usize,
        tokens: Range<usize>,
        emit: &impl Fn(usize, usize, i32),
    ) {
        let cols = w.cols();
        let bytes = &w.packed()[packed_row * cols..(packed_row + 1) * cols];
        let finish = |token: usize, dots: [i32; CODES_PER_BYTE]| {
            let rows = (packed_row..w.rows()).step_by(w.packed_rows());
            for (row, dot) in rows.zip(dots) {
                emit(token, row, dot - x.sums()[token]);
            }
        };
        let mut token = tokens.start;
        while token + TOKEN_GROUP <= tokens.end {
            let group = std::array::from_fn(|i| x.token(token + i));
            // SAFETY: `new` found the instruction set on this CPU; all slices have `cols` elements.
            let dots = unsafe { (self.dot4)(bytes, group) };
            for (i, dots) in dots.into_iter().enumerate() {
                finish(token + i, dots);
            }
            token += TOKEN_GROUP;
        }
        for token in token..tokens.end {
            // SAFETY: as above.
            finish(token, unsafe { (self.dot1)(bytes, x.token(token)) });
        }
    }
}

fn check_lengths(w: &TernaryMatrix, x: &QuantizedActivations, out: usize) -> Result<()> {
    let check = |what, expected, got| {
        if expected == got { Ok(()) } else { Err(Error::Length { what, expected, got }) }
    };
    check("columns of x", w.cols(), x.cols())?;
    check("output", w.rows().saturating_mul(x.tokens()), out)?;
    if w.cols() > MAX_COLS {
        return Err(Error::Length { what: "columns, at most", expected: MAX_COLS, got: w.cols() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
