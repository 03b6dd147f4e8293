//! Adam with decoupled weight decay.

use super::moments::Moments;
use super::{MomentFormat, Optimizer, Rates, State, state};
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
    /// How the moments are stored.
    pub moments: MomentFormat,
}

impl Default for AdamWOptions {
    /// Betas 0.9 and 0.95, eps 1e-8, decay of the weights of linears alone: as BitNet b1.58 was trained. Moments in float32.
    fn default() -> Self {
        Self { betas: [0.9, 0.95], eps: 1e-8, decays_all: false, moments: MomentFormat::Float32 }
    }
}

/// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
/// `w = w (1 - rate decay) - rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)` (arXiv 1711.05101).
///
/// The state of a parameter is `<name>.first_moment` and `<name>.second_moment`; of moments in eight bits, these are codes
/// in blocks, and `<name>.first_moment_scales` and `<name>.second_moment_scales` besides.
#[derive(Debug)]
pub struct AdamW {
    options: AdamWOptions,
    parameters: Vec<(Parameter, Moments)>,
    step: u64,
}

impl AdamW {
    /// With moments of 0.
    pub fn new(parameters: Vec<Parameter>, options: AdamWOptions) -> Self {
        let parameters = parameters.into_iter().map(|parameter| {
            let moments = Moments::new(&parameter, options.moments);
            (parameter, moments)
        });
        Self { options, parameters: parameters.collect(), step: 0 }
    }
}

impl Optimizer for AdamW {
    fn step(&mut self, rates: Rates) -> Result<()> {
        self.step += 1;
        let AdamWOptions { betas: [b1, b2], eps, decays_all, .. } = self.options;
        let unbiased = |beta: f32| 1.0 - f64::from(beta).powf(self.step as f64);
        let pace = (f64::from(rates.learning_rate) / unbiased(b1)) as f32;
        let root = (1.0 / unbiased(b2).sqrt()) as f32;
        for (parameter, moments) in &mut self.parameters {
            let Some(gradient) = parameter.variable().gradient() else { continue };
            let is_decayed = parameter.is_decayed() || decays_all;
            let kept = if is_decayed { 1.0 - rates.learning_rate * rates.weight_decay } else { 1.0 };
            moments.update(parameter, &gradient, |new, old, gradient, [first, second]| {
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
            moments.write(&mut tensors, parameter)?;
        }
        Ok(tensors)
    }

    fn restore(&mut self, tensors: &State) -> Result<()> {
        let step = state::read_step(tensors)?;
        let read = |(parameter, moments): &(Parameter, Moments)| moments.read(tensors, parameter);
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

    const EIGHT_BIT: AdamWOptions =
        AdamWOptions { betas: [0.9, 0.95], eps: 1e-8, decays_all: false, moments: MomentFormat::EightBit };

    #[test]
    fn a_restored_optimizer_goes_on_bit_for_bit_on_any_number_of_threads() {
        for options in [AdamWOptions::default(), EIGHT_BIT] {
            let run_whole = |threads| {
                with_threads(&Arc::new(ThreadPool::new(threads).unwrap()), || {
                    let parameters = parameters(30_000);
                    run(&mut AdamW::new(parameters.to_vec(), options), &parameters, 0..4);
                    bits(&parameters)
                })
            };
            let parameters = parameters(30_000);
            let mut first = AdamW::new(parameters.to_vec(), options);
            run(&mut first, &parameters, 0..2);
            let mut second = AdamW::new(parameters.to_vec(), options);
            second.restore(&first.state().unwrap()).unwrap();
            run(&mut second, &parameters, 2..4);
            assert_eq!(bits(&parameters), run_whole(1));
            assert_eq!(bits(&parameters), run_whole(3));
        }
    }

    #[test]
    fn eight_bits_of_linears_take_a_quarter_and_lead_nearly_where_float32_does() {
        let after = |options| {
            let parameters = parameters(1000);
            let mut optimizer = AdamW::new(parameters.to_vec(), options);
            run(&mut optimizer, &parameters, 0..20);
            let bytes: usize = optimizer.state().unwrap().values().map(|tensor| tensor.data().len()).sum();
            (parameters.map(|parameter| parameter.variable().value().to_vec::<f32>().unwrap()), bytes)
        };
        let ([w, e], bytes) = after(AdamWOptions::default());
        let ([w_of_eight, e_of_eight], bytes_of_eight) = after(EIGHT_BIT);
        // Two of a linear, and a scale for each block of 256; the last one is not full. And the step.
        assert_eq!((bytes, bytes_of_eight), (16_000 + 8, 2 * (1024 + 4 * 4) + 8_000 + 8));
        assert_eq!(e_of_eight, e);
        let moved = |w: &[f32]| -> f64 {
            w.iter().zip(values(1000, 0.1)).map(|(now, before)| f64::from(now - before).powi(2)).sum()
        };
        let error: f64 = w.iter().zip(&w_of_eight).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let relative = (error / moved(&w)).sqrt();
        assert!(relative > 1e-4 && relative < 0.03, "{relative}");
    }

    #[test]
    fn a_state_of_another_format_is_refused() {
        let state = |options| AdamW::new(parameters(4).to_vec(), options).state().unwrap();
        let restore = |options, state| AdamW::new(parameters(4).to_vec(), options).restore(&state);
        let of_eight = restore(AdamWOptions::default(), state(EIGHT_BIT));
        assert!(matches!(of_eight, Err(Error::Shape { what, .. }) if what == "w.first_moment"));
        let of_floats = restore(EIGHT_BIT, state(AdamWOptions::default()));
        assert!(matches!(of_floats, Err(Error::Shape { what, .. }) if what == "w.first_moment"));
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
