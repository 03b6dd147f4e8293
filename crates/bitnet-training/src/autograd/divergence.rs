//! How far a distribution is from another.

use bitnet_core::FloatKernels;

/// `sum_v p_v log(p_v / q_v)`, `p = softmax(teacher)`, `q = softmax(scores)`, of one row: the Kullback-Leibler divergence.
///
/// Leaves `factor (q - p)` in `scores`, `factor` times the gradient, and no account of `teacher` and `difference`, which is as
/// long. Equal scores give 0 exactly.
pub(super) fn divergence(
    kernels: &FloatKernels,
    scores: &mut [f32],
    teacher: &mut [f32],
    difference: &mut [f32],
    factor: f32,
) -> f64 {
    for ((difference, teacher), score) in difference.iter_mut().zip(&*teacher).zip(&*scores) {
        *difference = teacher - score;
    }
    let [of_scores, of_teacher] = [&mut *scores, &mut *teacher].map(|row| {
        let max = kernels.max(row, f32::NEG_INFINITY);
        kernels.softmax_weights(row, max);
        (f64::from(max), sum(row))
    });
    let log = |(max, total): (f64, f64)| max + total.ln();
    let expected = weighted_sum(teacher, difference) / of_teacher.1;
    let [q, p] = [of_scores, of_teacher].map(|(_, total)| (f64::from(factor) / total) as f32);
    for (score, teacher) in scores.iter_mut().zip(teacher) {
        *score = *score * q - *teacher * p;
    }
    expected + log(of_scores) - log(of_teacher)
}

/// Lanes that do not wait for each other.
const LANES: usize = 16;

/// In float64.
pub(super) fn sum(x: &[f32]) -> f64 {
    let (blocks, tail) = x.as_chunks::<LANES>();
    let mut lanes = [0.0_f64; LANES];
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane += f64::from(*x);
        }
    }
    lanes.iter().sum::<f64>() + tail.iter().map(|x| f64::from(*x)).sum::<f64>()
}

/// The same of products.
fn weighted_sum(weights: &[f32], x: &[f32]) -> f64 {
    let product = |(weight, x): (&f32, &f32)| f64::from(*weight) * f64::from(*x);
    let ((blocks, tail), (x_blocks, x_tail)) = (weights.as_chunks::<LANES>(), x.as_chunks::<LANES>());
    let mut lanes = [0.0_f64; LANES];
    for (block, x) in blocks.iter().zip(x_blocks) {
        for (lane, pair) in lanes.iter_mut().zip(block.iter().zip(x)) {
            *lane += product(pair);
        }
    }
    lanes.iter().sum::<f64>() + tail.iter().zip(x_tail).map(product).sum::<f64>()
}
