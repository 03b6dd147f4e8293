//! From texts to a model that runs: a run of training, in a folder.
//!
//! | in the folder | |
//! |---|---|
//! | `tokens/` | the data as tokens, made once |
//! | `checkpoints/` | what the run goes on from: see [`crate::checkpoint`] |
//! | `metrics.jsonl` | a line for each step |
//! | `samples.jsonl` | text of the model meanwhile, where that was asked for |
//! | `loss.svg`, `loss.png` | its curve, at the end |
//! | `model/` | the trained model, at the end: a master in bfloat16, which the engine runs |
//! | `adapter/` | in its place, where an adapter was trained: the files of PEFT, which the engine runs beside the model |
//!
//! Losses of evaluation are those of what will be written: the parameters of a model are rounded to bfloat16 for them,
//! those of an adapter are not. Where the written model lies between the first and the trained one, the loss at the end is
//! its own, and those before are of the trained one.

mod adapter;
mod conversion;
mod evaluation;
mod export;
mod folder;
mod interpolation;
mod observer;
mod optimizer_name;
mod options;
mod other_values;
mod preset;
mod recipe_name;
mod run;
mod samples;
mod start;
mod state;
mod step;
mod teacher;

#[cfg(test)]
mod tests;

pub use self::folder::RunFolder;
pub use self::observer::{Observer, Progress, RolledBack};
pub use self::optimizer_name::OptimizerName;
pub use self::options::{Length, TrainOptions};
pub use self::preset::Preset;
pub use self::recipe_name::RecipeName;
pub use self::run::{Outcome, Trained, Trainer, TrainingData};
pub use self::samples::{Sample, SampleOptions};
pub use self::start::Start;
