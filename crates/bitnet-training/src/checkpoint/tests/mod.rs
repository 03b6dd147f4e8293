//! Checkpoints written, found, kept and refused.

mod kill;
mod refusals;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{CheckpointStore, Fingerprint, SavedCheckpoint, StateTensor, TrainingState, latest};
use crate::data::Position;

/// A state whose every part follows from its step.
fn state(step: u64, eval_loss: Option<f64>) -> TrainingState {
    let mut fingerprint = Fingerprint::default();
    fingerprint.set("seq_len", 128);
    fingerprint.set("train.txt", "ab12");
    let random = BTreeMap::from([("rounding".to_owned(), (&ChaCha8Rng::seed_from_u64(step)).into())]);
    TrainingState {
        step,
        position: Position { epoch: step / 10, sequence: step % 10 },
        eval_loss,
        random,
        config: serde_json::json!({"lr": 0.001, "steps": step}),
        fingerprint,
    }
}

/// Values that follow from a step.
fn weights(step: u64, len: usize) -> Vec<f32> {
    (0..len).map(|i| (step as f32).sin() + i as f32).collect()
}

const MOMENTS: [u8; 3] = [1, 2, 255];

/// Writes a step of `len` weights.
fn save(store: &CheckpointStore, step: u64, eval_loss: Option<f64>, len: usize) -> crate::Result<PathBuf> {
    let (weights, dims) = (weights(step, len), [2, len / 2]);
    let tensors = [StateTensor::new("moments", &[3], &MOMENTS), StateTensor::new("w", &dims, &weights)];
    store.save(&state(step, eval_loss), &tensors)
}

/// Checks that all of a step is there.
fn check(saved: &SavedCheckpoint, eval_loss: Option<f64>, len: usize) {
    let step = saved.state.step;
    assert_eq!(saved.state, state(step, eval_loss));
    assert_eq!(saved.tensors.keys().collect::<Vec<_>>(), ["moments", "w"]);
    assert_eq!(saved.tensors["moments"].to_vec::<u8>().unwrap(), MOMENTS);
    assert_eq!(saved.tensors["w"].dims(), [2, len / 2]);
    assert_eq!(saved.tensors["w"].to_vec::<f32>().unwrap(), weights(step, len));
}

/// Names in a folder, sorted, without the lock.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "lock");
    names.sort_unstable();
    names
}
