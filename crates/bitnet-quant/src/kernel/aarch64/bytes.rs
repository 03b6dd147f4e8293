//! What needs no more than NEON, which every CPU has: moving bytes and taking them apart.

/// The methods of [`Vector`](super::super::vector::Vector) that all implementations here share.
macro_rules! bytes {
    () => {
        const BYTES: usize = 16;
        // Codes are signed bytes to the products here: the highest pair would be negative in its place.
        const PAIR_SHIFT: usize = 0;

        #[inline(always)]
        unsafe fn load(at: *const u8) -> Self {
            Self(unsafe { vld1q_u8(at) })
        }

        #[inline(always)]
        unsafe fn store(self, at: *mut u8) {
            unsafe { vst1q_u8(at, self.0) }
        }

        #[inline(always)]
        unsafe fn repeat(at: *const i8) -> Self {
            Self(unsafe { vreinterpretq_u8_s32(vdupq_n_s32(at.cast::<i32>().read_unaligned())) })
        }

        #[inline(always)]
        unsafe fn pair(self, pair: usize) -> Self {
            unsafe { self.low_pair(pair) }
        }

        #[inline(always)]
        unsafe fn low_pair(self, pair: usize) -> Self {
            unsafe { Self(vandq_u8(vshlq_u8(self.0, vdupq_n_s8(-2 * pair as i8)), vdupq_n_u8(3))) }
        }

        #[inline(always)]
        unsafe fn bit(self, bit: usize) -> Self {
            unsafe { Self(vandq_u8(vshlq_u8(self.0, vdupq_n_s8(2 - bit as i8)), vdupq_n_u8(4))) }
        }

        #[inline(always)]
        unsafe fn or(self, other: Self) -> Self {
            unsafe { Self(vorrq_u8(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn top_trit(self) -> Self {
            unsafe {
                // 1 from 86 on, and 1 more from 171 on.
                let one = vdupq_n_u8(1);
                let third = vminq_u8(vqsubq_u8(self.0, vdupq_n_u8(85)), one);
                let two_thirds = vminq_u8(vqsubq_u8(self.0, vdupq_n_u8(170)), one);
                Self(vaddq_u8(third, two_thirds))
            }
        }

        #[inline(always)]
        unsafe fn interleave([a, b, c, d]: [Self; 4]) -> [Self; 4] {
            unsafe {
                let zip = |ab, cd| {
                    let (ab, cd) = (vreinterpretq_u16_u8(ab), vreinterpretq_u16_u8(cd));
                    [vzip1q_u16(ab, cd), vzip2q_u16(ab, cd)].map(|q| Self(vreinterpretq_u8_u16(q)))
                };
                let [first, second] = zip(vzip1q_u8(a.0, b.0), vzip1q_u8(c.0, d.0));
                let [third, fourth] = zip(vzip2q_u8(a.0, b.0), vzip2q_u8(c.0, d.0));
                [first, second, third, fourth]
            }
        }

        #[inline(always)]
        unsafe fn transpose([a, b, c, d]: [Self; 4]) -> [Self; 4] {
            unsafe {
                let [a, b, c, d] = [a, b, c, d].map(|row| vreinterpretq_u32_u8(row.0));
                let (ab, cd) = (vzip1q_u32(a, b), vzip1q_u32(c, d));
                let (ab_high, cd_high) = (vzip2q_u32(a, b), vzip2q_u32(c, d));
                let pairs = [(ab, cd), (ab_high, cd_high)].map(|(ab, cd)| {
                    let (ab, cd) = (vreinterpretq_u64_u32(ab), vreinterpretq_u64_u32(cd));
                    [vzip1q_u64(ab, cd), vzip2q_u64(ab, cd)].map(|word| Self(vreinterpretq_u8_u64(word)))
                });
                [pairs[0][0], pairs[0][1], pairs[1][0], pairs[1][1]]
            }
        }

        #[inline(always)]
        unsafe fn store_apart(self, at: *mut u8, _stride: usize) {
            unsafe { self.store(at) }
        }
    };
}
pub(super) use bytes;
