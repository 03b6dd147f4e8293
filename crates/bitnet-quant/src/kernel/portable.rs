//! Plain Rust: what every machine can run, and what the instruction sets are compared with.
#![expect(unsafe_code, reason = "implements the trait of the vector kernels")]

use super::table::table;
use super::vector::Vector;

table!(Portable, #[inline], rows 1, groups 1, tile 1 x 4);

#[derive(Clone, Copy)]
pub(super) struct Portable([u8; 16]);

impl Portable {
    #[inline(always)]
    fn map(self, f: impl Fn(u8) -> u8) -> Self {
        Self(self.0.map(f))
    }
}

impl Vector for Portable {
    const BYTES: usize = 16;
    const HAS_WIDE_DOT: bool = true;
    const MAX_STEPS: usize = 1 << 12;
    const MAX_NIBBLE_STEPS: usize = 1 << 12;
    const PAIR_SHIFT: usize = 0;
    const CENTRES_TRITS: bool = false;

    /// A sum for every byte: the compiler makes vectors of that.
    type Sum = [i32; 16];

    #[inline(always)]
    unsafe fn load(at: *const u8) -> Self {
        // SAFETY: the caller has 16 bytes there.
        Self(unsafe { at.cast::<[u8; 16]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u8) {
        // SAFETY: the caller has 16 bytes there.
        unsafe { at.cast::<[u8; 16]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn repeat(at: *const i8) -> Self {
        // SAFETY: the caller has 4 bytes there.
        let four = unsafe { at.cast::<[u8; 4]>().read_unaligned() };
        Self(std::array::from_fn(|i| four[i % 4]))
    }

    #[inline(always)]
    unsafe fn pair(self, pair: usize) -> Self {
        self.map(|byte| byte >> (2 * pair) & 3)
    }

    #[inline(always)]
    unsafe fn nibble(self, nibble: usize) -> Self {
        self.map(|byte| byte >> (4 * nibble) & 15)
    }

    #[inline(always)]
    unsafe fn trits(self) -> Self {
        self
    }

    #[inline(always)]
    unsafe fn triple(self) -> Self {
        self.map(|byte| byte.wrapping_mul(3))
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sum {
        [0; 16]
    }

    #[inline(always)]
    unsafe fn dot(mut sum: Self::Sum, codes: Self, x: Self) -> Self::Sum {
        for i in 0..16 {
            // At most 255 * 128, which 16 bits hold.
            sum[i] += i32::from(i16::from(codes.0[i]) * i16::from(x.0[i].cast_signed()));
        }
        sum
    }

    #[inline(always)]
    unsafe fn add_to(sum: Self::Sum, shift: usize, out: *mut i32) {
        for (i, four) in sum.as_chunks::<4>().0.iter().enumerate() {
            // SAFETY: the caller has 4 integers there.
            unsafe { *out.add(i) += four.iter().sum::<i32>() >> shift };
        }
    }

    #[inline(always)]
    unsafe fn total(sum: Self::Sum) -> i32 {
        sum.into_iter().sum()
    }

    #[inline(always)]
    unsafe fn interleave(columns: [Self; 4]) -> [Self; 4] {
        std::array::from_fn(|q| Self(std::array::from_fn(|i| columns[i % 4].0[4 * q + i / 4])))
    }
}
