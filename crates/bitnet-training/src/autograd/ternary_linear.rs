//! Linears of ternary weights that are not trained.

use bitnet_quant::TernaryMatrix;

use super::bit_linear::{input_gradient, product};
use super::floats::Compute;
use super::{QuantizedInput, Variable};
use crate::{Error, Result};

/// `y = Q(x) W^T`, `[.., rows]`, by the integer kernel that inference runs: the same bits. `W` is `codes * scale` and gets
/// no gradient.
///
/// `dx = dy W`: that of a straight-through estimator.
///
/// Errors: [`Error::Shape`]; [`bitnet_quant::Error::Granularity`] for several scales.
pub fn ternary_linear(input: &QuantizedInput, w: &TernaryMatrix) -> Result<Variable> {
    let (rows, width) = (w.rows(), input.quantized.cols());
    if w.cols() != width {
        let (expected, got) = ([rows, width].into(), [rows, w.cols()].into());
        return Err(Error::Shape { what: "the weights of a linear".to_owned(), expected, got });
    }
    let y = product(&Compute::new()?, input, w)?;
    let (w, x_dims) = (w.clone(), input.x.dims());
    Ok(Variable::result(y, [&input.x], move |dy, _| {
        Ok([Some(input_gradient(&Compute::new()?, &dy, &w, x_dims)?)])
    }))
}

#[cfg(test)]
mod tests {
    use bitnet_core::Tensor;

    use super::super::bit_linear;
    use super::super::check::wave;
    use super::*;
    use crate::autograd::Estimator;

    fn leaf(dims: [usize; 2], seed: f64) -> Variable {
        let values = wave(dims[0] * dims[1], seed).iter().map(|&x| x as f32).collect::<Vec<_>>();
        Variable::leaf(Tensor::from_vec(values, dims).unwrap()).unwrap()
    }

    #[test]
    fn value_and_gradient_are_those_of_a_master_of_these_weights() {
        let x = leaf([6, 8], 0.3);
        // As many zeros as others, whose magnitude is twice the mean.
        let codes: Vec<i8> =
            (0..40).map(|i| if i % 2 == 0 { 0 } else { 1 - 2 * (i / 3 % 2) as i8 }).collect();
        let w = TernaryMatrix::from_codes(5, 8, &codes, 0.25).unwrap();
        let master: Vec<f32> = codes.iter().map(|code| f32::from(*code) * 0.5).collect();
        let master = Variable::constant(Tensor::from_vec(master, [5, 8]).unwrap()).unwrap();
        let dy = leaf([6, 5], 2.4).value();
        let run = |forward: &dyn Fn(&QuantizedInput) -> Variable| {
            x.set_gradient(None).unwrap();
            let y = forward(&QuantizedInput::new(&x).unwrap());
            y.backward_with(dy.clone()).unwrap();
            [y.value(), x.gradient().unwrap()].map(|tensor| tensor.to_vec::<f32>().unwrap())
        };
        let frozen = run(&|input| ternary_linear(input, &w).unwrap());
        assert_eq!(frozen, run(&|input| bit_linear(input, &master, Estimator::Plain).unwrap()));
        assert!(frozen.iter().flatten().any(|x| *x != 0.0));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let input = QuantizedInput::new(&leaf([2, 3], 0.1)).unwrap();
        let matrix = |cols, scales: bitnet_quant::Scales| {
            TernaryMatrix::from_codes(2, cols, &vec![1; 2 * cols], scales).unwrap()
        };
        assert!(matches!(ternary_linear(&input, &matrix(4, 1.0.into())), Err(Error::Shape { .. })));
        let several = bitnet_quant::Scales::Rows(vec![1.0, 2.0]);
        assert!(matches!(ternary_linear(&input, &matrix(3, several)), Err(Error::Quant(_))));
    }
}
