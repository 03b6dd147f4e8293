//! Recipes by name.

use crate::named::named;
use crate::optim::Recipe;

/// A recipe, whose rates follow from the steps of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipeName {
    /// [`Recipe::b1_58`]: a model from scratch.
    B1_58,
    /// [`Recipe::finetune`]: a trained model on other data.
    Finetune,
    /// The schedule of [`Recipe::finetune`], beside a teacher: see [`crate::distillation`].
    Distill,
}

impl RecipeName {
    /// Every recipe.
    pub const ALL: [Self; 3] = [Self::B1_58, Self::Finetune, Self::Distill];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::B1_58 => "b1.58",
            Self::Finetune => "finetune",
            Self::Distill => "distill",
        }
    }

    /// The greatest learning rate, where none is asked for: 1.5e-3, that of the small models of the BitNet b1.58 reports;
    /// 2e-4 to fine-tune; 1e-3 to distill, since weights that were no ternary ones have far to go.
    pub fn default_peak(self) -> f32 {
        match self {
            Self::B1_58 => 1.5e-3,
            Self::Finetune => 2e-4,
            Self::Distill => 1e-3,
        }
    }

    /// The rates of a run.
    pub fn recipe(self, peak: f32, steps: u64) -> Recipe {
        match self {
            Self::B1_58 => Recipe::b1_58(peak, steps),
            Self::Finetune | Self::Distill => Recipe::finetune(peak, steps),
        }
    }
}

named!(RecipeName, "recipe", "b1.58, finetune or distill");
