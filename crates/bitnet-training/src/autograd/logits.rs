//! The loss of a classifier.

use bitnet_core::Tensor;

use super::Variable;
use super::cross_entropy::{IGNORED, counted};
use super::floats::{Compute, by_rows, elements};
use crate::{Error, Result};

/// `mean over the targets of log(sum_v exp(z_v)) - z_target`, over the targets that are not [`IGNORED`]; `z` are the
/// logits, `[rows, classes]`.
///
/// `dz = (softmax(z) - onehot(target)) / targets`. See [`linear_cross_entropy`](super::linear_cross_entropy) for the head
/// of a language model, which need not hold its logits.
///
/// Errors: [`Error::Shape`], [`Error::Token`], [`Error::NoTargets`].
pub fn cross_entropy(logits: &Variable, targets: &[u32]) -> Result<Variable> {
    let value = logits.value();
    let &[rows, classes] = value.dims() else {
        let (operation, shape) = ("cross-entropy", value.shape().clone());
        return Err(Error::Core(bitnet_core::Error::Rank { operation, expected: 2, shape }));
    };
    if rows != targets.len() {
        let (expected, got) = ([targets.len(), classes].into(), value.shape().clone());
        return Err(Error::Shape { what: "the logits".to_owned(), expected, got });
    }
    let count = counted(targets, classes)?;
    let log_p = value.log_softmax(-1)?;
    let logs = elements(&log_p)?;
    let loss = |(row, target): (usize, &u32)| match *target {
        IGNORED => 0.0,
        target => -f64::from(logs[row * classes + target as usize]),
    };
    let sum: f64 = targets.iter().enumerate().map(loss).sum();
    let (targets, share) = (targets.to_vec(), 1.0 / count as f32);
    let y = Tensor::from_vec(vec![(sum / count as f64) as f32], [])?;
    Ok(Variable::result(y, [logits], move |dy, _| {
        let factor = dy.to_vec::<f32>()?[0] * share;
        let p = elements(&log_p.exp()?)?;
        let dz = by_rows(&Compute::new()?, log_p.shape(), classes, |first, out| {
            for (row, out) in (first..).zip(out.chunks_exact_mut(classes)) {
                let p = &p[row * classes..][..classes];
                match targets[row] {
                    IGNORED => out.fill(0.0),
                    target => {
                        out.iter_mut().zip(p).for_each(|(out, p)| *out = p * factor);
                        out[target as usize] = (p[target as usize] - 1.0) * factor;
                    }
                }
            }
        })?;
        Ok([Some(dz)])
    }))
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};
    use super::*;

    #[test]
    fn the_mean_loss_of_the_targets_that_count() {
        let targets = [2, 0, IGNORED, 6, 2];
        check(
            &[(&[5, 7], wave(35, 0.3))],
            |x| cross_entropy(&x[0], &targets)?.scaled(1.5),
            |x| {
                let loss = |row: usize| {
                    let z = &x[0][row * 7..][..7];
                    z.iter().map(|z| z.exp()).sum::<f64>().ln() - z[targets[row] as usize]
                };
                vec![[0, 1, 3, 4].map(loss).iter().sum::<f64>() / 4.0 * 1.5]
            },
        );
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let z = Variable::constant(Tensor::zeros([2, 3], bitnet_core::DType::F32).unwrap()).unwrap();
        assert!(matches!(cross_entropy(&z, &[0]), Err(Error::Shape { .. })));
        assert!(matches!(cross_entropy(&z, &[0, 3]), Err(Error::Token { id: 3, .. })));
        assert!(matches!(cross_entropy(&z, &[IGNORED; 2]), Err(Error::NoTargets)));
        assert!(cross_entropy(&z.reshape([6]).unwrap(), &[0]).is_err());
    }
}
