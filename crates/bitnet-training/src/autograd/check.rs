//! Gradients against central differences of a float64 forward pass.

use bitnet_core::Tensor;

use super::Variable;
use crate::Result;

/// Numbers in -1.5..1.5 without a pattern that gradients could hide in.
pub(super) fn wave(len: usize, seed: f64) -> Vec<f64> {
    (0..len).map(|i| ((i * i) as f64 * 0.37 + i as f64 * 1.7 + seed).sin() * 1.5).collect()
}

/// Checks value and gradients of `forward` against `exact`, the same in float64, for inputs of these shapes and
/// values: the gradients of `sum(dy * y)` for some `dy`.
pub(super) fn check(
    inputs: &[(&[usize], Vec<f64>)],
    forward: impl Fn(&[Variable]) -> Result<Variable>,
    exact: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let narrow = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<_>>();
    let leaf = |(dims, values): &(&[usize], Vec<f64>)| {
        Variable::leaf(Tensor::from_vec(narrow(values), dims.to_vec()).unwrap()).unwrap()
    };
    let leaves: Vec<Variable> = inputs.iter().map(leaf).collect();
    // What the leaves hold, so that the reference sees the same rounded numbers.
    let values: Vec<Vec<f64>> =
        inputs.iter().map(|(_, values)| narrow(values).iter().map(|&x| f64::from(x)).collect()).collect();
    let y = forward(&leaves).unwrap();
    let expected = exact(&values);
    close("value", &y.value().to_vec().unwrap(), &expected);
    let dy = wave(expected.len(), 2.1);
    y.backward_with(Tensor::from_vec(narrow(&dy), y.dims()).unwrap()).unwrap();
    let loss = |values: &[Vec<f64>]| {
        exact(values).iter().zip(&dy).map(|(y, dy)| y * f64::from(*dy as f32)).sum::<f64>()
    };
    for (input, leaf) in leaves.iter().enumerate() {
        let difference = |element: usize| {
            const STEP: f64 = 1e-5;
            let shifted = |by: f64| {
                let mut values = values.clone();
                values[input][element] += by;
                loss(&values)
            };
            (shifted(STEP) - shifted(-STEP)) / (2.0 * STEP)
        };
        let expected: Vec<f64> = (0..values[input].len()).map(difference).collect();
        close(&format!("gradient of input {input}"), &leaf.gradient().unwrap().to_vec().unwrap(), &expected);
    }
}

/// Within some roundings of float32 of the largest number.
fn close(what: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1.0_f64, |max, x| max.max(x.abs()));
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - expected).abs() / scale;
        assert!(error < 2e-6, "{what}, element {at}: {got}, exactly {expected}");
    }
}
