//! The length of all gradients together.

use bitnet_core::Buffer;
use bitnet_core::tensor::lent_threads;

use crate::Result;
use crate::nn::Parameter;

/// Elements that are added up before they meet the others.
const BLOCK: usize = 1 << 16;

/// `sqrt(sum of g^2)` over all elements of all gradients, added in float64 in an order that stays.
///
/// Errors: [`bitnet_core::Error::OutOfMemory`].
pub fn gradient_norm(parameters: &[Parameter]) -> Result<f64> {
    let pool = lent_threads()?;
    let mut sum = 0.0;
    for parameter in parameters {
        if let Some(gradient) = parameter.variable().gradient() {
            let gradient: Buffer<f32> = gradient.contiguous()?.data().typed();
            let mut sums = vec![0.0; gradient.len().div_ceil(BLOCK)];
            pool.split_rows(&mut sums, 1, |blocks, sums| {
                for (block, sum) in blocks.zip(sums) {
                    let end = gradient.len().min((block + 1) * BLOCK);
                    *sum = sum_of_squares(&gradient[block * BLOCK..end]);
                }
            });
            sum += sums.iter().sum::<f64>();
        }
    }
    Ok(sum.sqrt())
}

/// What gradients of this norm are multiplied by, so that they become no longer than `max_norm`.
pub fn clip_factor(norm: f64, max_norm: f64) -> f32 {
    (max_norm / (norm + 1e-6)).min(1.0) as f32
}

/// In lanes that do not wait for each other.
fn sum_of_squares(x: &[f32]) -> f64 {
    let (blocks, tail) = x.as_chunks::<16>();
    let mut lanes = [0.0_f64; 16];
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane += f64::from(*x) * f64::from(*x);
        }
    }
    lanes.iter().sum::<f64>() + tail.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use bitnet_core::Tensor;

    use super::*;

    #[test]
    fn the_norm_is_that_of_all_gradients_and_clipping_makes_it_the_limit() {
        let parameter = |gradient: Vec<f32>| {
            let tensor = Tensor::from_vec(gradient.clone(), [gradient.len()]).unwrap();
            let parameter = Parameter::decayed("w", tensor.clone()).unwrap();
            parameter.variable().set_gradient(Some(tensor)).unwrap();
            parameter
        };
        let without = Parameter::decayed("none", Tensor::from_vec(vec![9.0_f32], [1]).unwrap()).unwrap();
        let parameters = [parameter(vec![1.0; 20]), parameter(vec![-2.0]), without];
        let norm = gradient_norm(&parameters).unwrap();
        assert_eq!(norm, 24.0_f64.sqrt());
        assert!((norm * f64::from(clip_factor(norm, 1.0)) - 1.0).abs() < 1e-6);
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert!(clip_factor(f64::NAN, 1.0).is_finite());
    }
}
