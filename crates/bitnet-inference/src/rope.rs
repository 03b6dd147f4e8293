//! Rotary positions (arXiv 2104.09864), in the rotate-half arrangement of Hugging Face models.

mod llama3;

use std::sync::Arc;

pub use self::llama3::Llama3;

/// How the frequencies are changed for contexts longer than the model was first trained on.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency is divided by `factor`.
    Linear {
        /// Divisor.
        factor: f64,
    },
    /// Long wavelengths are divided, short ones kept, those between blended (Llama 3.1).
    Llama3(Llama3),
    /// Every frequency is divided by a factor of its own: what GGUF has for the others.
    Factors(Arc<[f32]>),
}

impl RopeScaling {
    /// The frequency of pair `pair`, which is `frequency` without scaling.
    fn apply(&self, pair: usize, frequency: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3(llama3) => llama3.apply(frequency),
            Self::Factors(factors) => frequency / f64::from(factors[pair]),
        }
    }
}

/// Cosines and sines of every position up to a capacity.
#[derive(Debug)]
pub struct RopeTable {
    half: usize,
    /// Per position: `half` cosines, then `half` sines.
    values: Vec<f32>,
}

impl RopeTable {
    /// `angle(p, i) = p * scaling(theta^(-2 i / head_dim))`, frequencies and angles rounded to float32 as in
    /// transformers.
    pub fn new(theta: f64, scaling: &RopeScaling, head_dim: usize, positions: usize) -> Self {
        let half = head_dim / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| {
                let exponent = 2.0 * i as f64 / head_dim as f64;
                scaling.apply(i, theta.powf(-exponent)) as f32
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

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        2 * self.half
    }

    /// How many positions there are.
    pub fn positions(&self) -> usize {
        self.values.len() / self.head_dim()
    }

    /// All of it, `[positions, head_dim]`: the cosines of a position, then its sines.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Rotates one head at `position`: pairs are element `i` and `i + head_dim / 2`.
    pub fn rotate(&self, position: usize, head: &mut [f32]) {
        let (cos, sin) = self.at(position);
        let (first, second) = head.split_at_mut(self.half);
        for i in 0..self.half {
            let (a, b) = (first[i], second[i]);
            first[i] = a * cos[i] - b * sin[i];
            second[i] = b * cos[i] + a * sin[i];
        }
    }

    /// Undoes [`Self::rotate`] at `position`, up to rounding.
    pub fn rotate_back(&self, position: usize, head: &mut [f32]) {
        let (cos, sin) = self.at(position);
        let (first, second) = head.split_at_mut(self.half);
        for i in 0..self.half {
            let (a, b) = (first[i], second[i]);
            first[i] = a * cos[i] + b * sin[i];
            second[i] = b * cos[i] - a * sin[i];
        }
    }

    /// Cosines and sines of a position.
    fn at(&self, position: usize) -> (&[f32], &[f32]) {
        self.values[position * 2 * self.half..][..2 * self.half].split_at(self.half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_was_moved_is_as_if_rotated_there() {
        let table = RopeTable::new(500_000.0, &RopeScaling::None, 8, 3000);
        let head = [1.0, -2.0, 0.5, 3.0, 0.25, -1.0, 2.0, -0.125];
        let (mut there, mut moved) = (head, head);
        table.rotate(7, &mut there);
        table.rotate(2999, &mut moved);
        table.rotate_back(2999, &mut moved);
        table.rotate(7, &mut moved);
        assert!(there.iter().zip(moved).all(|(a, b)| (a - b).abs() < 2e-6), "{there:?} {moved:?}");
    }

    #[test]
    fn frequencies_are_divided() {
        assert_eq!(RopeScaling::None.apply(0, 0.25), 0.25);
        assert_eq!(RopeScaling::Linear { factor: 4.0 }.apply(0, 0.25), 0.0625);
        assert_eq!(RopeScaling::Factors([1.0, 2.0].into()).apply(1, 0.25), 0.125);
    }
}
