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
            unsafe {
                let shifted = match pair {
                    0 => self.0,
                    1 => vshrq_n_u8::<2>(self.0),
                    2 => vshrq_n_u8::<4>(self.0),
                    _ => vshrq_n_u8::<6>(self.0),
                };
                Self(vandq_u8(shifted, vdupq_n_u8(3)))
            }
        }

        #[inline(always)]
        unsafe fn low_pair(self, pair: usize) -> Self {
            unsafe { self.pair(pair) }
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
    };
}
pub(super) use bytes;
