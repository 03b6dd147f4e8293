//! The frequency scaling of Llama 3.1: by its parameters, and as the factors that GGUF has in their place.

use std::f64::consts::TAU;

/// Long wavelengths are divided by `factor`, short ones kept, those between blended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3 {
    /// Divisor of the lowest frequencies.
    pub factor: f64,
    /// Wavelengths above `original_context / low_freq_factor` are divided.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_context / high_freq_factor` are kept.
    pub high_freq_factor: f64,
    /// Context of the original training.
    pub original_context: f64,
}

/// The most by which factors may be off, relatively, that are taken for those of some parameters: what is left of a
/// power that another library rounds otherwise.
const ROUNDING: f32 = 1e-6;

impl Llama3 {
    pub(super) fn apply(self, frequency: f64) -> f64 {
        let Self { factor, low_freq_factor, high_freq_factor, original_context } = self;
        let turns = original_context * frequency / TAU;
        let keep = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
        frequency * (keep + (1.0 - keep) / factor)
    }

    /// The divisors of all frequencies.
    ///
    /// Source: llama.cpp, `convert_hf_to_gguf.py`, `LlamaModel.generate_extra_tensors`, in the float32 arithmetic of
    /// torch, whose quotients are products with a reciprocal. The bits are the same where torch rounds powers of theta
    /// to the nearest.
    pub(crate) fn factors(self, theta: f64, head_dim: usize) -> Vec<f32> {
        let (low, high) = (self.low_freq_factor, self.high_freq_factor);
        let (longest, shortest) = (self.original_context / low, self.original_context / high);
        let of_pair = |pair: usize| {
            let exponent = (2 * pair) as f32 / head_dim as f32;
            let frequency = 1.0 / theta.powf(exponent.into()) as f32;
            let wavelength = 1.0 / frequency * TAU as f32;
            if wavelength < shortest as f32 {
                1.0
            } else if wavelength > longest as f32 {
                self.factor as f32
            } else {
                let turns = 1.0 / wavelength * self.original_context as f32;
                let keep = (turns - low as f32) / (high - low) as f32;
                1.0 / ((1.0 - keep) / self.factor as f32 + keep)
            }
        };
        (0..head_dim / 2).map(of_pair).collect()
    }

    /// Parameters that give these factors, and whether to the last bit; `None` where there are none.
    ///
    /// Factors say only how the three other parameters relate, so `low_freq_factor` is 1, as in all published models;
    /// `high_freq_factor` is sought among whole numbers and the context among powers of two.
    pub(crate) fn of_factors(theta: f64, head_dim: usize, factors: &[f32]) -> Option<(Self, bool)> {
        let factor = f64::from(*factors.last()?);
        // Those of Llama 3 first: factors without a blend fit many.
        let contexts = [13].into_iter().chain(5..=20).map(|exponent| f64::from(1 << exponent));
        let highs = || [4].into_iter().chain(2..=16).map(f64::from);
        let all = contexts.flat_map(|original_context| {
            highs().map(move |high_freq_factor| Self {
                factor,
                low_freq_factor: 1.0,
                high_freq_factor,
                original_context,
            })
        });
        let measured = all.map(|one| (one, difference(&one.factors(theta, head_dim), factors)));
        let (best, off) = measured.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        (off <= ROUNDING).then_some((best, off == 0.0))
    }
}

/// The largest relative difference.
fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    ours.iter().zip(theirs).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Llama 3.1.
    const PUBLISHED: Llama3 =
        Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192.0 };

    #[test]
    fn short_wavelengths_are_kept_long_ones_divided_and_those_between_blended() {
        assert_eq!(PUBLISHED.apply(1.0), 1.0);
        assert_eq!(PUBLISHED.apply(1e-5), 1e-5 / 8.0);
        // Wavelength 8192 / 2.5: halfway between the two bounds, in turns.
        let frequency = TAU * 2.5 / 8192.0;
        let expected = frequency * (0.5 + 0.5 / 8.0);
        assert!((PUBLISHED.apply(frequency) - expected).abs() < 1e-12);
    }

    /// The blended factors of Llama 3.2 1B, head size 64, as the converter makes them with torch 2.15.
    #[test]
    fn factors_are_those_of_the_converter() {
        let factors = Llama3 { factor: 32.0, ..PUBLISHED }.factors(500_000.0, 64);
        assert_eq!(factors.len(), 32);
        assert!(factors[..15].iter().all(|factor| *factor == 1.0), "{factors:?}");
        assert_eq!(factors[15..18], [1.651_329_3, 3.292_262_8, 9.666_731]);
        assert!(factors[18..].iter().all(|factor| *factor == 32.0), "{factors:?}");
    }

    proptest! {
        #[test]
        fn frequencies_are_divided_by_the_factors(
            theta in 1e3_f64..1e7, half in 4_usize..64, factor in 1.0_f64..64.0, high in 1.5_f64..16.0,
        ) {
            let scaling = Llama3 { factor, high_freq_factor: high, ..PUBLISHED };
            for (pair, divisor) in scaling.factors(theta, 2 * half).into_iter().enumerate() {
                let frequency = theta.powf(-(pair as f64) / half as f64);
                let ratio = scaling.apply(frequency) * f64::from(divisor) / frequency;
                // Near a bound a blend is steep: float32 of a wavelength is off by some 1e-7.
                prop_assert!((ratio - 1.0).abs() < 1e-4, "{} {}", pair, ratio);
            }
        }

        #[test]
        fn parameters_are_found_again(
            theta in prop::sample::select(vec![1e4, 5e5, 1e6]),
            head_dim in prop::sample::select(vec![32_usize, 64, 128]),
            factor in 1_u8..64, high in 2_u8..=16, exponent in 5_u32..=14,
        ) {
            let scaling = Llama3 {
                factor: factor.into(),
                high_freq_factor: high.into(),
                original_context: f64::from(1 << exponent),
                ..PUBLISHED
            };
            let factors = scaling.factors(theta, head_dim);
            prop_assume!(factors.last() == Some(&(scaling.factor as f32)));
            let (found, is_exact) = Llama3::of_factors(theta, head_dim, &factors).expect("there are some");
            prop_assert!(is_exact);
            prop_assert_eq!(found.factors(theta, head_dim), factors);
        }
    }

    #[test]
    fn published_parameters_are_found_as_they_are_and_others_not() {
        let mut factors = PUBLISHED.factors(500_000.0, 128);
        assert_eq!(Llama3::of_factors(500_000.0, 128, &factors), Some((PUBLISHED, true)));
        let blended = factors.iter().position(|factor| *factor > 1.0).expect("a blend");
        factors[blended] = factors[blended].next_up();
        assert_eq!(Llama3::of_factors(500_000.0, 128, &factors), Some((PUBLISHED, false)));
        factors[blended] *= 1.001;
        assert_eq!(Llama3::of_factors(500_000.0, 128, &factors), None);
    }
}
