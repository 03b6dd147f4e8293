//! Gradient descent with momentum.

use super::{Optimizer, Rates, State, state, update::update};
use crate::Result;
use crate::nn::Parameter;

/// Options of [`Sgd`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SgdOptions {
    /// Share of the velocity that stays at each step.
    pub momentum: f32,
    /// Whether the gradient is looked at where the velocity leads (Nesterov).
    pub is_nesterov: bool,
    /// Whether norms, embeddings and biases decay as well.
    pub decays_all: bool,
}

/// `u = momentum u + g`, `w = w (1 - rate decay) - rate u`; by Nesterov `rate (g + momentum u)`.
///
/// The state of a parameter is `<name>.velocity`.
#[derive(Debug)]
pub struct Sgd {
    options: SgdOptions,
    parameters: Vec<(Parameter, Vec<f32>)>,
    step: u64,
}

const VELOCITY: &str = "velocity";

impl Sgd {
    /// With velocities of 0.
    pub fn new(parameters: Vec<Parameter>, options: SgdOptions) -> Self {
        let parameters = parameters.into_iter().map(|parameter| {
            let velocity = vec![0.0; parameter.variable().value().len()];
            (parameter, velocity)
        });
        Self { options, parameters: parameters.collect(), step: 0 }
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, rates: Rates) -> Result<()> {
        self.step += 1;
        let SgdOptions { momentum, is_nesterov, decays_all } = self.options;
        let rate = rates.learning_rate;
        for (parameter, velocity) in &mut self.parameters {
            let Some(gradient) = parameter.variable().gradient() else { continue };
            let kept =
                if parameter.is_decayed() || decays_all { 1.0 - rate * rates.weight_decay } else { 1.0 };
            update(parameter, &gradient, 1, [velocity], |new, old, gradient, [velocity]| {
                for (((new, old), g), u) in new.iter_mut().zip(old).zip(gradient).zip(velocity) {
                    let g = g * rates.gradient_factor;
                    *u = momentum * *u + g;
                    *new = old * kept - rate * if is_nesterov { g + momentum * *u } else { *u };
                }
            })?;
        }
        Ok(())
    }

    fn state(&self) -> Result<State> {
        let mut tensors = State::new();
        state::write_step(&mut tensors, self.step)?;
        for (parameter, velocity) in &self.parameters {
            state::write(&mut tensors, parameter, VELOCITY, velocity)?;
        }
        Ok(tensors)
    }

    fn restore(&mut self, tensors: &State) -> Result<()> {
        let step = state::read_step(tensors)?;
        let read = |(parameter, _): &(Parameter, Vec<f32>)| state::read(tensors, parameter, VELOCITY);
        let read: Vec<Vec<f32>> = self.parameters.iter().map(read).collect::<Result<_>>()?;
        self.step = step;
        self.parameters.iter_mut().zip(read).for_each(|((_, velocity), read)| *velocity = read);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bitnet_core::Tensor;

    use super::*;

    #[test]
    fn velocity_adds_up_and_is_restored() {
        let rates = Rates { learning_rate: 0.5, weight_decay: 0.5, gradient_factor: 2.0 };
        let run = |is_nesterov| {
            let w = Parameter::decayed("w", Tensor::from_vec(vec![1.0_f32], [1]).unwrap()).unwrap();
            let options = SgdOptions { momentum: 0.5, is_nesterov, decays_all: false };
            let mut sgd = Sgd::new(vec![w.clone()], options);
            w.variable().set_gradient(Some(Tensor::from_vec(vec![0.25_f32], [1]).unwrap())).unwrap();
            sgd.step(rates).unwrap();
            let mut again = Sgd::new(vec![w.clone()], options);
            again.restore(&sgd.state().unwrap()).unwrap();
            again.step(rates).unwrap();
            w.variable().value().to_vec::<f32>().unwrap()[0]
        };
        // u = 0.5, w = 0.75 - 0.25; u = 0.75, w = 0.5 * 0.75 - 0.375.
        assert_eq!(run(false), 0.0);
        // w = 0.75 - 0.5 * (0.5 + 0.25); w = 0.375 * 0.75 - 0.5 * (0.5 + 0.375).
        assert_eq!(run(true), 0.375 * 0.75 - 0.4375);
    }
}
