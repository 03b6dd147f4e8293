//! Adam with decoupled weight decay.

use super::{Optimizer, Rates, State, state, update::update};
use crate::Result;
use crate::nn::Parameter;

/// Options of [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWOptions {
    /// Shares of the old moments that stay at each step.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Whether norms, embeddings and biases decay as well.
    pub decays_all: bool,
}

impl Default for AdamWOptions {
    /// Betas 0.9 and 0.95, eps 1e-8, decay of the weights of linears alone: as BitNet b1.58 was trained.
    fn default() -> Self {
        Self { betas: [0.9, 0.95], eps: 1e-8, decays_all: false }
    }
}

/// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
/// `w = w (1 - rate decay) - rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)` (arXiv 1711.05101).
///
/// The state of a parameter is `<name>.first_moment` and `<name>.second_moment`.
#[derive(Debug)]
pub struct AdamW {
    options: AdamWOptions,
    parameters: Vec<(Parameter, Moments)>,
    step: u64,
}

#[derive(Debug)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

const FIRST: &str = "first_moment";
const SECOND: &str = "second_moment";

impl AdamW {
    /// With moments of 0.
    pub fn new(parameters: Vec<Parameter>, options: AdamWOptions) -> Self {
        let moments = |parameter: &Parameter| {
            let zeros = vec![0.0; parameter.variable().value().len()];
            Moments { first: zeros.clone(), second: zeros }
        };
        let parameters = parameters.into_iter().map(|parameter| {
            let moments = moments(&parameter);
            (parameter, moments)
        });
        Self { options, parameters: parameters.collect(), step: 0 }
    }
}

impl Optimizer for AdamW {
    fn step(&mut self, rates: Rates) -> Result<()> {
        self.step += 1;
        let AdamWOptions { betas: [b1, b2], eps, decays_all } = self.options;
        let unbiased = |beta: f32| 1.0 - f64::from(beta).powf(self.step as f64);
        let pace = (f64::from(rates.learning_rate) / unbiased(b1)) as f32;
        let root = (1.0 / unbiased(b2).sqrt()) as f32;
        for (parameter, moments) in &mut self.parameters {
            let Some(gradient) = parameter.variable().gradient() else { continue };
            let is_decayed = parameter.is_decayed() || decays_all;
            let kept = if is_decayed { 1.0 - rates.learning_rate * rates.weight_decay } else { 1.0 };
            let moments = [&mut moments.first, &mut moments.second];
            update(parameter, &gradient, moments, |new, old, gradient, [first, second]| {
                let moments = first.iter_mut().zip(second);
                for (((new, old), g), (m, v)) in new.iter_mut().zip(old).zip(gradient).zip(moments) {
                    let g = g * rates.gradient_factor;
                    *m = b1 * *m + (1.0 - b1) * g;
                    *v = b2 * *v + (1.0 - b2) * (g * g);
                    *new = old * kept - pace * *m / (v.sqrt() * root + eps);
                }
            })?;
        }
        Ok(())
    }

    fn state(&self) -> Result<State> {
        let mut tensors = State::new();
        state::write_step(&mut tensors, self.step)?;
        for (parameter, moments) in &self.parameters {
            state::write(&mut tensors, parameter, FIRST, &moments.first)?;
            state::write(&mut tensors, parameter, SECOND, &moments.second)?;
        }
        Ok(tensors)
    }

    fn restore(&mut self, tensors: &State) -> Result<()> {
        let step = state::read_step(tensors)?;
        let read = |(parameter, _): &(Parameter, Moments)| {
            let (first, second) =
                (state::read(tensors, parameter, FIRST)?, state::read(tensors, parameter, SECOND)?);
            Ok(Moments { first, second })
        };
        let read: Vec<Moments> = self.parameters.iter().map(read).collect::<Result<_>>()?;
        self.step = step;
        self.parameters.iter_mut().zip(read).for_each(|((_, moments), read)| *moments = read);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitnet_core::tensor::with_threads;
    use bitnet_core::{Tensor, ThreadPool};

    use super::*;
    use crate::Error;

    const RATES: Rates = Rates { learning_rate: 0.1, weight_decay: 0.2, gradient_factor: 0.5 };

    fn values(len: usize, seed: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 1.7 + seed).sin()).collect()
    }

    fn parameters(len: usize) -> [Parameter; 2] {
        let tensor = |seed| Tensor::from_vec(values(len, seed), [len]).unwrap();
        [Parameter::decayed("w", tensor(0.1)).unwrap(), Parameter::undecayed("e", tensor(0.7)).unwrap()]
    }

    fn run(optimizer: &mut AdamW, parameters: &[Parameter], steps: std::ops::Range<usize>) {
        for step in steps {
            for (i, parameter) in parameters.iter().enumerate() {
                let len = parameter.variable().value().len();
                let gradient = Tensor::from_vec(values(len, (step * 2 + i) as f32), [len]).unwrap();
                parameter.variable().set_gradient(Some(gradient)).unwrap();
            }
            optimizer.step(RATES).unwrap();
        }
    }

    fn bits(parameters: &[Parameter]) -> Vec<u32> {
        let values = |parameter: &Parameter| parameter.variable().value().to_vec::<f32>().unwrap();
        parameters.iter().flat_map(values).map(f32::to_bits).collect()
    }

    #[test]
    fn follows_its_formula_in_float64() {
        let parameters = parameters(5);
        run(&mut AdamW::new(parameters.to_vec(), AdamWOptions::default()), &parameters, 0..3);
        for (i, parameter) in parameters.iter().enumerate() {
            for (at, got) in parameter.variable().value().to_vec::<f32>().unwrap().into_iter().enumerate() {
                let mut w = f64::from(values(5, [0.1, 0.7][i])[at]);
                let (mut m, mut v) = (0.0, 0.0);
                for step in 0..3 {
                    let g = 0.5 * f64::from(values(5, (step * 2 + i) as f32)[at]);
                    (m, v) = (0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g);
                    let [m, v] = [
                        m / (1.0 - 0.9_f64.powi(step as i32 + 1)),
                        v / (1.0 - 0.95_f64.powi(step as i32 + 1)),
                    ];
                    w = w * (1.0 - 0.1 * [0.2, 0.0][i]) - 0.1 * m / (v.sqrt() + 1e-8);
                }
                assert!((f64::from(got) - w).abs() < 1e-6, "{got} {w}");
            }
        }
    }

    #[test]
    fn a_restored_optimizer_goes_on_bit_for_bit_on_any_number_of_threads() {
        let run_whole = |threads| {
            with_threads(&Arc::new(ThreadPool::new(threads).unwrap()), || {
                let parameters = parameters(30_000);
                run(&mut AdamW::new(parameters.to_vec(), AdamWOptions::default()), &parameters, 0..4);
                bits(&parameters)
            })
        };
        let parameters = parameters(30_000);
        let mut first = AdamW::new(parameters.to_vec(), AdamWOptions::default());
        run(&mut first, &parameters, 0..2);
        let mut second = AdamW::new(parameters.to_vec(), AdamWOptions::default());
        second.restore(&first.state().unwrap()).unwrap();
        run(&mut second, &parameters, 2..4);
        assert_eq!(bits(&parameters), run_whole(1));
        assert_eq!(bits(&parameters), run_whole(3));
    }

    #[test]
    fn a_state_that_does_not_fit_changes_nothing() {
        let mut optimizer = AdamW::new(parameters(4).to_vec(), AdamWOptions::default());
        let before = optimizer.state().unwrap();
        let mut other = AdamW::new(parameters(5).to_vec(), AdamWOptions::default()).state().unwrap();
        assert!(matches!(optimizer.restore(&other), Err(Error::Shape { .. })));
        other.remove("e.second_moment");
        other.insert("w.first_moment".to_owned(), before["w.first_moment"].clone());
        other.insert("w.second_moment".to_owned(), before["w.second_moment"].clone());
        other.insert("e.first_moment".to_owned(), before["e.first_moment"].clone());
        assert!(
            matches!(optimizer.restore(&other), Err(Error::MissingTensor(name)) if name == "e.second_moment")
        );
        assert_eq!(format!("{:?}", optimizer.state().unwrap()), format!("{before:?}"));
    }
}
