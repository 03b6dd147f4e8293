//! Checkpoints of a training run: all that it takes to go on as if it had never stopped.
//!
//! A checkpoint is a folder, `step-00001200`, with two files: the tensors in `tensors.safetensors`, and in `state.json` the
//! [`TrainingState`] with the SHA-256 of the first. Both are written to the disk in a folder of another name, which is then
//! renamed: a run that is killed at any moment leaves the checkpoint before whole. One that was damaged later is passed
//! over for the one before.

mod fingerprint;
mod saved;
mod state;
mod store;
mod tensor;

#[cfg(test)]
mod tests;

pub use self::fingerprint::{Difference, Fingerprint};
pub use self::saved::SavedCheckpoint;
pub use self::state::{RandomState, TrainingState};
pub use self::store::{CheckpointStore, Found, has_any, latest};
pub use self::tensor::StateTensor;
