//! From gradients to new parameters.

mod adamw;
mod dynamic_code;
mod gradients;
mod moments;
mod recipe;
mod schedule;
mod sgd;
mod state;
mod update;

pub use adamw::{AdamW, AdamWOptions};
pub use gradients::{clip_factor, gradient_norm};
pub use moments::MomentFormat;
pub use recipe::Recipe;
pub use schedule::{Fall, Schedule};
pub use sgd::{Sgd, SgdOptions};
pub use state::State;

use crate::Result;

/// What one step is made with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// How far parameters move.
    pub learning_rate: f32,
    /// How far they are pulled to 0, times the learning rate.
    pub weight_decay: f32,
    /// Factor of all gradients: of [`clip_factor`], of a loss that was scaled, of micro-batches that were added up.
    pub gradient_factor: f32,
}

/// Changes parameters by their gradients.
///
/// Steps are computed element by element: the number of threads changes no bit.
pub trait Optimizer {
    /// Changes every parameter that has a gradient. Gradients stay; see [`crate::nn::Module::clear_gradients`].
    ///
    /// Errors: [`bitnet_core::Error::OutOfMemory`].
    fn step(&mut self, rates: Rates) -> Result<()>;

    /// Everything that the next step depends on, apart from parameters and gradients.
    ///
    /// Errors: [`bitnet_core::Error::OutOfMemory`].
    fn state(&self) -> Result<State>;

    /// Takes up where [`Self::state`] was: the next step is the same, bit for bit.
    ///
    /// Errors: [`crate::Error::MissingTensor`], [`crate::Error::Shape`]; nothing has changed then.
    fn restore(&mut self, state: &State) -> Result<()>;
}
