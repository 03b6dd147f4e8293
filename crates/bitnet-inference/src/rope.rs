//! Rotary positions (arXiv 2104.09864), in the rotate-half arrangement of Hugging Face models.

/// How the frequencies are changed for contexts longer than the model was first trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency is divided by `factor`.
    Linear {
        /// Divisor.
        factor: f64,
    },
    /// Long wavelengths are divided by `factor`, short ones kept, those between blended (Llama 3.1).
    Llama3 {
        /// Divisor of the lowest frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context of the original training.
        original_context: f64,
    },
}

impl RopeScaling {
    fn apply(self, frequency: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let turns = original_context * frequency / std::f64::consts::TAU;
                let keep = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                frequency * (keep + (1.0 - keep) / factor)
            }
        }
    }
}

/// Cosines and sines of every position up to a capacity.
#[derive(Debug)]
pub(crate) struct RopeTable {
    half: usize,
    /// Per position: `half` cosines, then `half` sines.
    values: Vec<f32>,
}

impl RopeTable {
    /// `angle(p, i) = p * scaling(theta^(-2 i / head_dim))`, frequencies and angles rounded to float32 as in
    /// transformers.
    pub(crate) fn new(theta: f64, scaling: RopeScaling, head_dim: usize, positions: usize) -> Self {
        let half = head_dim / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| {
                let exponent = 2.0 * i as f64 / head_dim as f64;
                scaling.apply(theta.powf(-exponent)) as f32
            })
            .collect();
        let mut values = Vec::with_capacity(positions * head_dim);
        for position in 0..positions {
            let angles = frequencies.iter().map(|frequency| position as f32 * frequency);
            values.extend(angles.clone().map(f32::cos));
            values.extend(angles.map(f32::sin));
        }
        Self { half, values }
    }

    /// Rotates one head at `position`: pairs are element `i` and `i + head_dim / 2`.
    pub(crate) fn rotate(&self, position: usize, head: &mut [f32]) {
        let (cos, sin) = self.values[position * 2 * self.half..][..2 * self.half].split_at(self.half);
        let (first, second) = head.split_at_mut(self.half);
        for i in 0..self.half {
            let (a, b) = (first[i], second[i]);
            first[i] = a * cos[i] - b * sin[i];
            second[i] = b * cos[i] + a * sin[i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_divides_and_none_keeps() {
        assert_eq!(RopeScaling::None.apply(0.25), 0.25);
        assert_eq!(RopeScaling::Linear { factor: 4.0 }.apply(0.25), 0.0625);
    }

    #[test]
    fn llama3_keeps_short_wavelengths_divides_long_ones_and_blends_between() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        };
        assert_eq!(scaling.apply(1.0), 1.0);
        assert_eq!(scaling.apply(1e-5), 1e-5 / 8.0);
        // Wavelength 8192 / 2.5: halfway between the two bounds, in turns.
        let frequency = std::f64::consts::TAU * 2.5 / 8192.0;
        let expected = frequency * (0.5 + 0.5 / 8.0);
        assert!((scaling.apply(frequency) - expected).abs() < 1e-12);
    }
}
