//! What every width of vector does alike: moving bytes and taking them apart.

/// The methods of [`Vector`](super::super::vector::Vector) that all implementations here share, for vectors of 128, 256
/// or 512 bits.
macro_rules! bytes {
    (128) => {
        bytes!(
            16,
            _mm_loadu_si128,
            _mm_storeu_si128,
            _mm_set1_epi8,
            _mm_set1_epi32,
            _mm_sll_epi16,
            _mm_srl_epi16,
            _mm_and_si128,
            _mm_or_si128,
            _mm_unpacklo_epi8,
            _mm_unpackhi_epi8,
            _mm_unpacklo_epi16,
            _mm_unpackhi_epi16
        );
    };
    (256) => {
        bytes!(
            32,
            _mm256_loadu_si256,
            _mm256_storeu_si256,
            _mm256_set1_epi8,
            _mm256_set1_epi32,
            _mm256_sll_epi16,
            _mm256_srl_epi16,
            _mm256_and_si256,
            _mm256_or_si256,
            _mm256_unpacklo_epi8,
            _mm256_unpackhi_epi8,
            _mm256_unpacklo_epi16,
            _mm256_unpackhi_epi16
        );
    };
    (512) => {
        bytes!(
            64,
            _mm512_loadu_si512,
            _mm512_storeu_si512,
            _mm512_set1_epi8,
            _mm512_set1_epi32,
            _mm512_sll_epi16,
            _mm512_srl_epi16,
            _mm512_and_si512,
            _mm512_or_si512,
            _mm512_unpacklo_epi8,
            _mm512_unpackhi_epi8,
            _mm512_unpacklo_epi16,
            _mm512_unpackhi_epi16
        );
    };
    ($bytes:literal, $load:ident, $store:ident, $bytes_of:ident, $words_of:ident, $up:ident, $down:ident, $and:ident,
     $or:ident, $low_bytes:ident, $high_bytes:ident, $low_words:ident, $high_words:ident) => {
        const BYTES: usize = $bytes;

        #[inline(always)]
        unsafe fn load(at: *const u8) -> Self {
            Self(unsafe { $load(at.cast()) })
        }

        #[inline(always)]
        unsafe fn store(self, at: *mut u8) {
            unsafe { $store(at.cast(), self.0) }
        }

        #[inline(always)]
        unsafe fn repeat(at: *const i8) -> Self {
            Self(unsafe { $words_of(at.cast::<i32>().read_unaligned()) })
        }

        #[inline(always)]
        unsafe fn low_pair(self, pair: usize) -> Self {
            // Shifts move bits across bytes; the mask drops them.
            unsafe { Self($and($down(self.0, _mm_cvtsi32_si128(2 * pair as i32)), $bytes_of(3))) }
        }

        #[inline(always)]
        unsafe fn bit(self, bit: usize) -> Self {
            unsafe {
                let by = |count: usize| _mm_cvtsi32_si128(count as i32);
                let shifted = if bit < 2 { $up(self.0, by(2 - bit)) } else { $down(self.0, by(bit - 2)) };
                Self($and(shifted, $bytes_of(4)))
            }
        }

        #[inline(always)]
        unsafe fn or(self, other: Self) -> Self {
            Self(unsafe { $or(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn trits(self) -> Self {
            self
        }

        #[inline(always)]
        unsafe fn interleave([a, b, c, d]: [Self; 4]) -> [Self; 4] {
            unsafe {
                let (ab, cd) = ($low_bytes(a.0, b.0), $low_bytes(c.0, d.0));
                let (ab_high, cd_high) = ($high_bytes(a.0, b.0), $high_bytes(c.0, d.0));
                [
                    Self($low_words(ab, cd)),
                    Self($high_words(ab, cd)),
                    Self($low_words(ab_high, cd_high)),
                    Self($high_words(ab_high, cd_high)),
                ]
            }
        }
    };
}
pub(super) use bytes;
