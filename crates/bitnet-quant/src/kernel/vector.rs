//! What the kernels ask of an instruction set: one small trait, so that each algorithm is written once.
//!
//! Every method is `#[inline(always)]` and becomes one or a few instructions inside a function that carries the
//! instruction set (see `table.rs`).
#![expect(unsafe_code, reason = "vector instructions")]

use crate::packing::LINE;

/// A vector of bytes.
///
/// # Safety
/// Every method may be called only where the CPU has the instruction set, inside a function compiled for it. `load`
/// reads, `store` and `store_apart` write `BYTES` bytes, `repeat` reads 4, `add_to` reads and writes `BYTES / 4` integers.
pub(super) trait Vector: Copy {
    /// Bytes of a vector; divides a line.
    const BYTES: usize;
    /// Whether `dot` takes codes of 8 bits, which base 3 needs.
    const HAS_WIDE_DOT: bool;
    /// Calls of `dot` with codes up to 3 that a sum takes.
    const MAX_STEPS: usize;
    /// The same with codes up to 7.
    const MAX_OCTAL_STEPS: usize;
    /// How far `pair` leaves a code above its place, times its index: 2 where masking is enough, 0 where `dot` takes
    /// small codes only and the code is shifted down.
    const PAIR_SHIFT: usize;
    /// Whether `trits` centres bytes at 0, so that the digits it leads to are -1, 0, +1 rather than 0, 1, 2.
    const CENTRES_TRITS: bool;

    /// Sums of products, not yet widened; `BYTES / 4` of them are meant.
    type Sum: Copy;

    unsafe fn load(at: *const u8) -> Self;
    unsafe fn store(self, at: *mut u8);
    /// Four bytes, over and over.
    unsafe fn repeat(at: *const i8) -> Self;
    /// The two bits `pair` of every byte, shifted up by `PAIR_SHIFT * pair`.
    unsafe fn pair(self, pair: usize) -> Self;
    /// The two bits `pair` of every byte, shifted down.
    unsafe fn low_pair(self, pair: usize) -> Self;
    /// The bit `bit` of every byte, as a third bit: 0 or 4.
    unsafe fn bit(self, bit: usize) -> Self;
    unsafe fn or(self, other: Self) -> Self;
    /// Bytes in base 3 as `dot` takes them.
    unsafe fn trits(self) -> Self;
    /// Every byte times 3, modulo 256.
    unsafe fn triple(self) -> Self;
    /// The first digit of every byte in base 3, `floor(3 v / 256)`.
    unsafe fn top_trit(self) -> Self;
    unsafe fn zero() -> Self::Sum;
    /// Adds the products of codes and activations, four neighbours to one sum.
    unsafe fn dot(sum: Self::Sum, codes: Self, x: Self) -> Self::Sum;
    /// The same vector, of which the compiler does not know that it is: `dot` of it is computed each time, where it is
    /// more than one instruction and a part of it would be computed once.
    #[inline(always)]
    unsafe fn unknown(self) -> Self {
        self
    }
    /// Widens the sums, shifts them down, and adds them to memory.
    unsafe fn add_to(sum: Self::Sum, shift: usize, out: *mut i32);
    /// The sum of the sums.
    unsafe fn total(sum: Self::Sum) -> i32;
    /// The sum of four of them, which fits. Sums that are wide enough are added before they are totalled.
    #[inline(always)]
    unsafe fn total_of(sums: [Self::Sum; 4]) -> i32 {
        // SAFETY: by the contract.
        unsafe { Self::total(sums[0]) + Self::total(sums[1]) + Self::total(sums[2]) + Self::total(sums[3]) }
    }
    /// Four vectors byte by byte: within every 16 bytes, byte `4 q + i` of each becomes element `i` of vector `q`.
    unsafe fn interleave(columns: [Self; 4]) -> [Self; 4];
    /// Four vectors by words of four bytes: within every 16 bytes, word `i` of vector `r` becomes word `r` of vector `i`.
    unsafe fn transpose(rows: [Self; 4]) -> [Self; 4];
    /// Stores each 16 bytes `stride` bytes behind the ones before.
    unsafe fn store_apart(self, at: *mut u8, stride: usize);

    /// Vectors in a line.
    const PARTS: usize = LINE / Self::BYTES;
}
