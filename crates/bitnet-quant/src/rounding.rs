//! From numbers to whole numbers.

/// How a number between two whole ones is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Rounding {
    /// To the nearest, half to the even one: the rule of BitNet b1.58.
    #[default]
    HalfEven,
    /// To the nearest, half away from zero.
    HalfAway,
    /// Up with the probability of the fraction, so that the mean is kept: up when `u < x - floor(x)`, `u` uniform
    /// in [0, 1).
    ///
    /// `u` follows from the seed and the place of the element alone, so the result does not depend on the number of
    /// threads. Source: "Deep Learning with Limited Numerical Precision", arXiv 1502.02551.
    Stochastic {
        /// Another seed, other roundings.
        seed: u64,
    },
}

impl Rounding {
    /// `out[i] = round(clamp(x[i], low, high)) + offset` of the elements from place `first` on. The bounds are whole and
    /// within 2^22, the results within an i8.
    pub(crate) fn round(
        self,
        first: u64,
        (low, high): (f32, f32),
        x: impl Iterator<Item = f32>,
        offset: i8,
        out: &mut [i8],
    ) {
        /// Adding it rounds to the next whole number, the even one of two.
        const ROUND: f32 = 12_582_912.0;
        let offset = f32::from(offset);
        let pairs = out.iter_mut().zip(x.map(|x| x.clamp(low, high)));
        match self {
            Self::HalfEven => pairs.for_each(|(out, x)| *out = ((x + ROUND) - ROUND + offset) as i8),
            Self::HalfAway => pairs.for_each(|(out, x)| *out = (x.round() + offset) as i8),
            Self::Stochastic { seed } => {
                for (place, (out, x)) in (first..).zip(pairs) {
                    let below = x.floor();
                    let up = f32::from(u8::from(uniform(seed, place) < x - below));
                    *out = (below + up + offset) as i8;
                }
            }
        }
    }
}

/// A number in [0, 1) that follows from the seed and a place: 24 bits of `SplitMix64`.
///
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
fn uniform(seed: u64, place: u64) -> f32 {
    let mut z = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(rounding: Rounding, x: &[f32]) -> Vec<i8> {
        let mut out = vec![0; x.len()];
        rounding.round(0, (-127.0, 127.0), x.iter().copied(), 0, &mut out);
        out
    }

    #[test]
    fn halves_go_where_the_mode_says() {
        let x = [0.5, 1.5, 2.5, -0.5, -1.5, 0.499_999_97, 200.0, -200.0];
        assert_eq!(round(Rounding::HalfEven, &x), [0, 2, 2, 0, -2, 0, 127, -127]);
        assert_eq!(round(Rounding::HalfAway, &x), [1, 2, 3, -1, -2, 0, 127, -127]);
    }

    #[test]
    fn stochastic_rounding_keeps_the_mean_and_follows_the_seed() {
        let x = vec![2.3; 100_000];
        let rounded = round(Rounding::Stochastic { seed: 7 }, &x);
        assert!(rounded.iter().all(|code| [2, 3].contains(code)));
        let mean = rounded.iter().map(|code| f64::from(*code)).sum::<f64>() / 1e5;
        // Three standard errors of a coin of 0.3 thrown 100,000 times.
        assert!((mean - 2.3).abs() < 3.0 * (0.3_f64 * 0.7 / 1e5).sqrt(), "{mean}");
        assert_eq!(round(Rounding::Stochastic { seed: 7 }, &x), rounded);
        assert_ne!(round(Rounding::Stochastic { seed: 8 }, &x), rounded);
        let whole = [-3.0, 0.0, 5.0];
        assert_eq!(round(Rounding::Stochastic { seed: 1 }, &whole), [-3, 0, 5]);
    }
}
