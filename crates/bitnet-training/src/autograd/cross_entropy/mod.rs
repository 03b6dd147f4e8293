//! The loss of a language model, together with its head.
//!
//! Logits are `[tokens, vocabulary]`, far more than everything else together. So they are computed for a chunk of tokens,
//! turned into the gradients of the loss at once, and forgotten: what stays are the gradients of `h` and `w`, which only
//! wait for that of the loss. The same goes for the logits of a teacher.

mod head;

use bitnet_core::Tensor;

use self::head::{Factors, Head, Teacher};
use super::Variable;
use super::elementwise::wanted;
use super::floats::{Compute, elements};
use super::variable::is_recorded;
use crate::{Error, Result};

/// A target that does not count: of padding, or of a text that is not to be learned.
pub const IGNORED: u32 = u32::MAX;

/// Another model of the same tokens, whose probabilities are to be approached.
#[derive(Debug, Clone, Copy)]
pub struct SoftTargets<'a> {
    /// What its head multiplies, `[tokens, its width]`.
    pub h: &'a Tensor,
    /// Its head, `[vocabulary, its width]`.
    pub w: &'a Tensor,
    /// What the logits of both are divided by.
    pub temperature: f32,
    /// Of the divergence in the loss.
    pub weight: f32,
}

/// A loss of two parts.
#[derive(Debug)]
pub struct DistilledLoss {
    /// `cross_entropy + weight * divergence`.
    pub loss: Variable,
    /// Mean over the targets, nats.
    pub cross_entropy: f64,
    /// Mean over the targets, nats.
    pub divergence: f64,
}

/// `mean over the targets of log(sum_v exp(z_v)) - z_target`, `z = h W^T`, over the targets that are not [`IGNORED`].
///
/// `h` is `[tokens, width]`, `w` `[vocabulary, width]`, the embedding where the head is tied.
///
/// Errors: [`Error::Shape`], [`Error::Token`], [`Error::NoTargets`].
pub fn linear_cross_entropy(h: &Variable, w: &Variable, targets: &[u32]) -> Result<Variable> {
    Ok(loss(h, w, targets, None)?.loss)
}

/// The loss of [`linear_cross_entropy`], and the mean over the same tokens of the Kullback-Leibler divergence
/// `sum_v p_v log(p_v / q_v)`, `q = softmax(z / temperature)`, `p` the same of the other model.
///
/// The gradient of the divergence by `z` is `(q - p) / temperature`. Source: arXiv 1503.02531, without its factor
/// `temperature^2`, as in arXiv 2510.13998.
///
/// Errors: as [`linear_cross_entropy`]; [`Error::InvalidOption`] for a temperature that is not positive.
pub fn distilled_cross_entropy(
    h: &Variable,
    w: &Variable,
    targets: &[u32],
    soft: &SoftTargets<'_>,
) -> Result<DistilledLoss> {
    loss(h, w, targets, Some(soft))
}

/// How many targets there are. Errors: [`Error::Token`], [`Error::NoTargets`].
pub(super) fn counted(targets: &[u32], vocab_size: usize) -> Result<usize> {
    let is_counted = |target: &&u32| **target != IGNORED;
    if let Some(&id) = targets.iter().filter(is_counted).find(|id| **id as usize >= vocab_size) {
        return Err(Error::Token { id, vocab_size });
    }
    match targets.iter().filter(is_counted).count() {
        0 => Err(Error::NoTargets),
        count => Ok(count),
    }
}

fn loss(
    h: &Variable,
    w: &Variable,
    targets: &[u32],
    soft: Option<&SoftTargets<'_>>,
) -> Result<DistilledLoss> {
    let (h_value, w_value) = (h.value(), w.value());
    let [vocab_size, width] = sizes(&h_value, &w_value, targets.len(), "the input of the head")?;
    let count = counted(targets, vocab_size)?;
    let head = Head {
        compute: Compute::new()?,
        factors: Factors { h: elements(&h_value)?, w: elements(&w_value)?, width },
        vocab_size,
        targets,
        share: 1.0 / count as f32,
        teacher: soft.map(|soft| teacher(soft, [targets.len(), vocab_size])).transpose()?,
    };
    let wants = if is_recorded(&[h, w]) { [h.wants_gradient(), w.wants_gradient()] } else { [false; 2] };
    let (sums, dh, dw) = head.run(wants)?;
    let [cross_entropy, divergence] = sums.map(|sum| sum / count as f64);
    let total = cross_entropy + divergence * f64::from(soft.map_or(0.0, |soft| soft.weight));
    let loss = Tensor::from_vec(vec![total as f32], [])?;
    let gradients = [(dh, h_value), (dw, w_value)]
        .map(|(gradient, value)| gradient.map(|gradient| Tensor::from_pool(gradient, value.shape().clone())));
    let [dh, dw] = gradients.map(Option::transpose);
    let (dh, dw) = (dh?, dw?);
    let loss = Variable::result(loss, [h, w], move |dy, [wants_h, wants_w]| {
        let dy = dy.to_vec::<f32>()?[0];
        let scaled = |gradient: &Option<Tensor>| -> Result<Tensor> {
            let gradient = gradient.as_ref().ok_or(Error::NoGradient)?;
            Ok(if dy == 1.0 { gradient.clone() } else { gradient.mul(dy)? })
        };
        Ok([wanted(wants_h, || scaled(&dh))?, wanted(wants_w, || scaled(&dw))?])
    });
    Ok(DistilledLoss { loss, cross_entropy, divergence })
}

/// Rows and columns of `w`, which `h` must fit.
fn sizes(h: &Tensor, w: &Tensor, tokens: usize, what: &str) -> Result<[usize; 2]> {
    let vocab_size = w.dims().first().copied().unwrap_or(0);
    let width = w.len().checked_div(vocab_size).unwrap_or(0);
    let expected = [tokens, width];
    if w.rank() == 2 && h.dims() == expected {
        return Ok([vocab_size, width]);
    }
    Err(Error::Shape { what: what.to_owned(), expected: expected.into(), got: h.shape().clone() })
}

fn teacher(soft: &SoftTargets<'_>, [tokens, vocab_size]: [usize; 2]) -> Result<Teacher> {
    let SoftTargets { h, w, temperature, weight } = *soft;
    let [rows, width] = sizes(h, w, tokens, "the input of the teacher's head")?;
    if rows != vocab_size {
        let (expected, got) = ([vocab_size, width].into(), w.shape().clone());
        return Err(Error::Shape { what: "the teacher's head".to_owned(), expected, got });
    }
    if !(temperature > 0.0 && temperature.is_finite()) {
        let (expected, got) = ("a number above 0", temperature.to_string());
        return Err(Error::InvalidOption { name: "temperature", expected, got });
    }
    Ok(Teacher { factors: Factors { h: elements(h)?, w: elements(w)?, width }, temperature, weight })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitnet_core::ThreadPool;
    use bitnet_core::tensor::with_threads;

    use super::super::check::{check, wave};
    use super::super::no_grad;
    use super::head::CHUNK;
    use super::*;

    fn tensor(dims: [usize; 2], seed: f64) -> Tensor {
        let values = wave(dims[0] * dims[1], seed).iter().map(|&x| x as f32).collect::<Vec<_>>();
        Tensor::from_vec(values, dims).unwrap()
    }

    /// Logits of a token.
    fn logits(h: &[f64], w: &[f64], width: usize, token: usize) -> Vec<f64> {
        let dot = |row: &[f64]| row.iter().zip(&h[token * width..]).map(|(w, h)| w * h).sum();
        w.chunks(width).map(dot).collect()
    }

    fn log_softmax(z: &[f64], temperature: f64) -> Vec<f64> {
        let log = z.iter().map(|z| (z / temperature).exp()).sum::<f64>().ln();
        z.iter().map(|z| z / temperature - log).collect()
    }

    #[test]
    fn follows_its_formula_and_passes_over_what_is_ignored() {
        let (vocab_size, width) = (7, 3);
        let targets = [4, IGNORED, 0, 6, 4];
        check(
            &[(&[5, width], wave(15, 0.3)), (&[vocab_size, width], wave(21, 0.9))],
            |x| linear_cross_entropy(&x[0], &x[1], &targets),
            |x| {
                let counted = (0..5).filter(|token| targets[*token] != IGNORED);
                let loss = |token: usize| {
                    -log_softmax(&logits(&x[0], &x[1], width, token), 1.0)[targets[token] as usize]
                };
                vec![counted.map(loss).sum::<f64>() / 4.0]
            },
        );
    }

    /// The teacher is twice as wide, and one target is ignored.
    #[test]
    fn the_divergence_follows_its_formula() {
        let (vocab_size, width) = (7, 3);
        let targets = [4, IGNORED, 0, 6, 4];
        let (h, w) = (tensor([5, 2 * width], 0.5), tensor([vocab_size, 2 * width], 2.2));
        let [wide_h, wide_w] =
            [&h, &w].map(|x| x.to_f32().unwrap().into_iter().map(f64::from).collect::<Vec<_>>());
        for (temperature, weight) in [(1.0, 1.0), (3.0, 0.5), (0.5, 2.0)] {
            let soft = SoftTargets { h: &h, w: &w, temperature: temperature as f32, weight: weight as f32 };
            check(
                &[(&[5, width], wave(15, 0.3)), (&[vocab_size, width], wave(21, 0.9))],
                |x| Ok(distilled_cross_entropy(&x[0], &x[1], &targets, &soft)?.loss),
                |x| {
                    let loss = |token: usize| {
                        let z = logits(&x[0], &x[1], width, token);
                        let log_q = log_softmax(&z, temperature);
                        let log_p = log_softmax(&logits(&wide_h, &wide_w, 2 * width, token), temperature);
                        let divergence: f64 =
                            log_p.iter().zip(log_q).map(|(log_p, log_q)| log_p.exp() * (log_p - log_q)).sum();
                        weight * divergence - log_softmax(&z, 1.0)[targets[token] as usize]
                    };
                    let counted = (0..5).filter(|token| targets[*token] != IGNORED);
                    vec![counted.map(loss).sum::<f64>() / 4.0]
                },
            );
        }
    }

    #[test]
    fn a_student_that_equals_its_teacher_has_no_divergence_and_no_gradient_of_it() {
        let leaf = |dims, seed| Variable::leaf(tensor(dims, seed)).unwrap();
        let (h, w) = (leaf([4, 3], 0.1), leaf([9, 3], 0.7));
        let targets = [1, 2, IGNORED, 8];
        let gradients = |loss: &Variable| {
            [&h, &w].map(|x| x.set_gradient(None)).into_iter().collect::<Result<()>>().unwrap();
            loss.backward().unwrap();
            [&h, &w].map(|x| x.gradient().unwrap().to_vec::<f32>().unwrap())
        };
        let soft = SoftTargets { h: &h.value(), w: &w.value(), temperature: 1.7, weight: 10.0 };
        let distilled = distilled_cross_entropy(&h, &w, &targets, &soft).unwrap();
        assert_eq!(distilled.divergence, 0.0);
        let plain = linear_cross_entropy(&h, &w, &targets).unwrap();
        assert_eq!(distilled.loss.value().to_f32().unwrap(), plain.value().to_f32().unwrap());
        assert_eq!(gradients(&distilled.loss), gradients(&plain));
    }

    /// More tokens than a chunk has, on one thread and on three, with one handle for both uses of a tied embedding.
    #[test]
    fn chunks_and_threads_change_no_bit() {
        let (tokens, vocab_size, width) = (300, CHUNK / 100, 2);
        let (h_value, w_value) = (tensor([tokens, width], 0.1), tensor([vocab_size, width], 0.7));
        let taught = tensor([tokens, width], 1.9);
        let soft = SoftTargets { h: &taught, w: &w_value, temperature: 2.0, weight: 0.5 };
        let targets: Vec<u32> = (0..tokens as u32).map(|token| token * 7).collect();
        let run = |threads: usize| {
            with_threads(&Arc::new(ThreadPool::new(threads).unwrap()), || {
                let leaf = |value: &Tensor| Variable::leaf(value.clone()).unwrap();
                let (h, w) = (leaf(&h_value), leaf(&w_value));
                let loss = distilled_cross_entropy(&h, &w, &targets, &soft).unwrap().loss;
                let evaluated = no_grad(|| distilled_cross_entropy(&h, &w, &targets, &soft)).unwrap().loss;
                loss.scaled(0.5).unwrap().backward().unwrap();
                let vec = |tensor: Tensor| tensor.to_vec::<f32>().unwrap();
                let gradient = |x: &Variable| vec(x.gradient().unwrap());
                (vec(loss.value()), vec(evaluated.value()), gradient(&h), gradient(&w))
            })
        };
        let (loss, evaluated, dh, dw) = run(1);
        assert_eq!(loss, evaluated);
        assert!((loss[0] - (vocab_size as f32).ln()).abs() < 2.0, "{loss:?}");
        assert_eq!(run(3), (loss, evaluated, dh, dw));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let zeros = |dims: [usize; 2]| {
            Variable::constant(Tensor::zeros(dims, bitnet_core::DType::F32).unwrap()).unwrap()
        };
        let (h, w) = (zeros([2, 3]), zeros([5, 3]));
        assert!(matches!(linear_cross_entropy(&h, &w, &[0]), Err(Error::Shape { .. })));
        assert!(matches!(linear_cross_entropy(&h, &w, &[0, 5]), Err(Error::Token { id: 5, .. })));
        assert!(matches!(linear_cross_entropy(&h, &w, &[IGNORED; 2]), Err(Error::NoTargets)));
        let refused = |dims: [[usize; 2]; 2], temperature| {
            let [h_of_teacher, w_of_teacher] = dims.map(|dims| zeros(dims).value());
            let soft = SoftTargets { h: &h_of_teacher, w: &w_of_teacher, temperature, weight: 1.0 };
            distilled_cross_entropy(&h, &w, &[0, 1], &soft).is_err()
        };
        assert!(!refused([[2, 4], [5, 4]], 1.0) && refused([[2, 4], [5, 4]], 0.0));
        assert!(refused([[2, 4], [6, 4]], 1.0) && refused([[3, 4], [5, 4]], 1.0));
    }
}
