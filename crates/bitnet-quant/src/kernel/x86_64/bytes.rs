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
            _mm_subs_epu8,
            _mm_min_epu8,
            _mm_add_epi8,
            _mm_unpacklo_epi8,
            _mm_unpackhi_epi8,
            _mm_unpacklo_epi16,
            _mm_unpackhi_epi16,
            _mm_unpacklo_epi32,
            _mm_unpackhi_epi32,
            _mm_unpacklo_epi64,
            _mm_unpackhi_epi64
        );

        #[inline(always)]
        unsafe fn store_apart(self, at: *mut u8, _stride: usize) {
            unsafe { self.store(at) }
        }
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
            _mm256_subs_epu8,
            _mm256_min_epu8,
            _mm256_add_epi8,
            _mm256_unpacklo_epi8,
            _mm256_unpackhi_epi8,
            _mm256_unpacklo_epi16,
            _mm256_unpackhi_epi16,
            _mm256_unpacklo_epi32,
            _mm256_unpackhi_epi32,
            _mm256_unpacklo_epi64,
            _mm256_unpackhi_epi64
        );

        #[inline(always)]
        unsafe fn store_apart(self, at: *mut u8, stride: usize) {
            unsafe {
                _mm_storeu_si128(at.cast(), _mm256_castsi256_si128(self.0));
                _mm_storeu_si128(at.add(stride).cast(), _mm256_extracti128_si256::<1>(self.0));
            }
        }
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
            _mm512_subs_epu8,
            _mm512_min_epu8,
            _mm512_add_epi8,
            _mm512_unpacklo_epi8,
            _mm512_unpackhi_epi8,
            _mm512_unpacklo_epi16,
            _mm512_unpackhi_epi16,
            _mm512_unpacklo_epi32,
            _mm512_unpackhi_epi32,
            _mm512_unpacklo_epi64,
            _mm512_unpackhi_epi64
        );

        #[inline(always)]
        unsafe fn store_apart(self, at: *mut u8, stride: usize) {
            unsafe {
                _mm_storeu_si128(at.cast(), _mm512_castsi512_si128(self.0));
                _mm_storeu_si128(at.add(stride).cast(), _mm512_extracti32x4_epi32::<1>(self.0));
                _mm_storeu_si128(at.add(2 * stride).cast(), _mm512_extracti32x4_epi32::<2>(self.0));
                _mm_storeu_si128(at.add(3 * stride).cast(), _mm512_extracti32x4_epi32::<3>(self.0));
            }
        }
    };
    ($bytes:literal, $load:ident, $store:ident, $bytes_of:ident, $words_of:ident, $up:ident, $down:ident, $and:ident,
     $or:ident, $less:ident, $min:ident, $add:ident, $low_bytes:ident, $high_bytes:ident, $low_words:ident,
     $high_words:ident, $low_fours:ident, $high_fours:ident, $low_eights:ident, $high_eights:ident) => {
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
        unsafe fn top_trit(self) -> Self {
            unsafe {
                // 1 from 86 on, and 1 more from 171 on.
                let one = $bytes_of(1);
                let third = $min($less(self.0, $bytes_of(85)), one);
                let two_thirds = $min($less(self.0, $bytes_of(170_u8.cast_signed())), one);
                Self($add(third, two_thirds))
            }
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

        #[inline(always)]
        unsafe fn transpose([a, b, c, d]: [Self; 4]) -> [Self; 4] {
            unsafe {
                let (ab, cd) = ($low_fours(a.0, b.0), $low_fours(c.0, d.0));
                let (ab_high, cd_high) = ($high_fours(a.0, b.0), $high_fours(c.0, d.0));
                [
                    Self($low_eights(ab, cd)),
                    Self($high_eights(ab, cd)),
                    Self($low_eights(ab_high, cd_high)),
                    Self($high_eights(ab_high, cd_high)),
                ]
            }
        }
    };
}
pub(super) use bytes;
