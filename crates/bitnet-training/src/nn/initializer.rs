//! Values of new parameters.

use bitnet_core::{DType, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::Result;
use crate::autograd::uncleared;

/// A source of random tensors: the same seed and the same calls give the same values on every machine.
#[derive(Debug)]
pub struct Initializer {
    random: ChaCha8Rng,
}

impl Initializer {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Normally distributed around 0, by the method of Box and Muller.
    pub fn normal(&mut self, dims: &[usize], deviation: f64) -> Result<Tensor> {
        let mut values = uncleared(dims.iter().product())?;
        for pair in values.chunks_mut(2) {
            let radius = (-2.0 * self.uniform().ln()).sqrt() * deviation;
            let (sin, cos) = libm::sincos(std::f64::consts::TAU * self.uniform());
            for (value, part) in pair.iter_mut().zip([cos, sin]) {
                *value = (radius * part) as f32;
            }
        }
        Ok(Tensor::from_pool(values, dims.to_vec())?)
    }

    /// Ones: the weights of a new norm.
    pub fn ones(len: usize) -> Result<Tensor> {
        Ok(Tensor::ones([len], DType::F32)?)
    }

    /// Above 0 and up to 1.
    fn uniform(&mut self) -> f64 {
        ((self.random.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_normal_and_follow_the_seed() {
        let draw = |seed| Initializer::new(seed).normal(&[101, 99], 0.02).unwrap().to_vec::<f32>().unwrap();
        let values = draw(7);
        let moment = |power: i32| values.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / 9999.0;
        // Four standard errors each.
        assert!(moment(1).abs() < 4.0 * 0.02 / 100.0);
        assert!((moment(2) / 0.0004 - 1.0).abs() < 4.0 * (2.0_f64 / 9999.0).sqrt());
        assert!((moment(4) / 0.02_f64.powi(4) - 3.0).abs() < 4.0 * (96.0_f64 / 9999.0).sqrt());
        assert_eq!(draw(7), values);
        assert_ne!(draw(8), values);
    }
}
