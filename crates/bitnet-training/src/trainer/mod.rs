//! From texts to a model that runs: a run of training, in a folder.
//!
//! | in the folder | |
//! |---|---|
//! | `tokens/` | the data as tokens, made once |
//! | `checkpoints/` | what the run goes on from: see [`crate::checkpoint`] |
//! | `metrics.jsonl` | a line for each step |
//! | `loss.svg`, `loss.png` | its curve, at the end |
//! | `model/` | the trained model, at the end: a master in bfloat16, which the engine runs |
//!
//! Losses of evaluation are those of the model as it will be written: with its parameters rounded to bfloat16.

mod conversion;
mod evaluation;
mod export;
mod folder;
mod observer;
mod options;
mod preset;
mod recipe_name;
mod run;
mod start;
mod state;
mod step;
mod teacher;

#[cfg(test)]
mod tests;

pub use self::folder::RunFolder;
pub use self::observer::{Observer, Progress, RolledBack};
pub use self::options::{Length, TrainOptions};
pub use self::preset::Preset;
pub use self::recipe_name::RecipeName;
pub use self::run::{Outcome, Trained, Trainer, TrainingData};
pub use self::start::Start;
