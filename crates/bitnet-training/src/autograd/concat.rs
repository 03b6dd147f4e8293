//! Several variables as one.

use bitnet_core::Tensor;

use super::Variable;
use super::elementwise::wanted;
use crate::Result;

impl Variable {
    /// Variables one after another along `axis`.
    ///
    /// Errors: [`bitnet_core::Error::Axis`], [`bitnet_core::Error::Shapes`], [`bitnet_core::Error::Empty`].
    pub fn concatenate(variables: &[&Self], axis: isize) -> Result<Self> {
        let values: Vec<Tensor> = variables.iter().map(|variable| variable.value()).collect();
        let y = Tensor::concatenate(&values.iter().collect::<Vec<_>>(), axis)?;
        let at = axis.rem_euclid(y.rank() as isize);
        let lens: Vec<usize> = values.iter().map(|value| value.dims()[at as usize]).collect();
        Ok(Self::result_of(y, variables, move |dy, wants| {
            let mut end = 0;
            lens.iter()
                .zip(wants)
                .map(|(len, &wants)| {
                    end += len;
                    let part = (end - len) as isize..end as isize;
                    wanted(wants, || Ok(dy.slice(at, part)?))
                })
                .collect()
        }))
    }

    /// Variables of one shape along a new dimension at place `axis` of the result.
    ///
    /// Errors: as [`Self::concatenate`].
    pub fn stack(variables: &[&Self], axis: isize) -> Result<Self> {
        let values: Vec<Tensor> = variables.iter().map(|variable| variable.value()).collect();
        let y = Tensor::stack(&values.iter().collect::<Vec<_>>(), axis)?;
        let at = axis.rem_euclid(y.rank() as isize);
        Ok(Self::result_of(y, variables, move |dy, wants| {
            let part = |(place, &wants)| wanted(wants, || Ok(dy.select(at, place)?));
            (0..).zip(wants).map(part).collect()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, wave};
    use super::*;

    #[test]
    fn every_part_has_its_part_of_the_gradient() {
        let join = |x: &[Vec<f64>]| {
            (0..2).flat_map(|row| [&x[0][row * 3..][..3], &x[1][row * 2..][..2]].concat()).collect()
        };
        let inputs = [(&[2, 3][..], wave(6, 0.1)), (&[2, 2][..], wave(4, 0.5))];
        check(&inputs, |x| Variable::concatenate(&[&x[0], &x[1]], -1), join);
        let inputs = [(&[3][..], wave(3, 0.1)), (&[3][..], wave(3, 0.5))];
        let columns = |x: &[Vec<f64>]| (0..6).map(|i| x[i % 2][i / 2]).collect();
        check(&inputs, |x| Variable::stack(&[&x[0], &x[1]], -1), columns);
    }

    #[test]
    fn one_variable_twice_has_both_gradients() {
        check(
            &[(&[3], wave(3, 0.1))],
            |x| Variable::concatenate(&[&x[0], &x[0]], 0),
            |x| [&x[0][..], &x[0][..]].concat(),
        );
    }
}
