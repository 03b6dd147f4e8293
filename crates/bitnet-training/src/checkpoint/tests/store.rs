//! What is found, and what is kept.

use std::fs;

use super::*;
use crate::Error;

#[test]
fn what_is_saved_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path(), 9).unwrap();
    assert!(store.resume(&Fingerprint::default()).unwrap().is_none());
    for step in [5, 10] {
        save(&store, step, Some(1.5), 6).unwrap();
    }
    let found = store.resume(&state(0, None).fingerprint).unwrap().unwrap();
    assert_eq!(found.path, folder.path().join("step-00000010"));
    check(&found, Some(1.5), 6);
    let again = save(&store, 10, Some(1.5), 6).unwrap();
    assert_eq!(again, found.path, "the same step is the same checkpoint");
}

#[test]
fn a_folder_that_is_not_there_has_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let found = latest(&folder.path().join("none")).unwrap();
    assert!(found.checkpoint.is_none() && found.damaged.is_empty());
}

#[test]
fn the_last_ones_and_the_best_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path(), 2).unwrap();
    let losses = [None, Some(2.0), Some(1.0), Some(f64::NAN), Some(1.0), None, Some(3.0)];
    for (step, loss) in losses.into_iter().enumerate() {
        save(&store, step as u64, loss, 2).unwrap();
    }
    assert_eq!(names(folder.path()), ["step-00000002", "step-00000005", "step-00000006"]);
    assert_eq!(store.best().unwrap(), Some(folder.path().join("step-00000002")));
    save(&store, 7, Some(0.5), 2).unwrap();
    assert_eq!(names(folder.path()), ["step-00000006", "step-00000007"]);
}

#[test]
fn steps_are_numbers_whatever_their_length() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path(), 1).unwrap();
    for step in [99_999_999, 100_000_000] {
        save(&store, step, None, 2).unwrap();
    }
    assert_eq!(names(folder.path()), ["step-100000000"]);
}

#[test]
fn damaged_checkpoints_are_passed_over_and_then_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path(), 9).unwrap();
    for step in 1..=6 {
        save(&store, step, None, 100).unwrap();
    }
    let file = |step: u64, name: &str| folder.path().join(format!("step-{step:08}")).join(name);
    let change = |path: &Path, change: fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    };
    change(&file(6, "tensors.safetensors"), |bytes| *bytes.last_mut().unwrap() ^= 1);
    change(&file(5, "tensors.safetensors"), |bytes| bytes.truncate(200));
    change(&file(4, "state.json"), |bytes| bytes.truncate(bytes.len() / 2));
    change(&file(3, "state.json"), |bytes| bytes.fill(0));
    fs::remove_file(file(2, "tensors.safetensors")).unwrap();

    let found = latest(folder.path()).unwrap();
    check(&found.checkpoint.unwrap(), None, 100);
    let damage: Vec<String> = found.damaged.iter().map(Error::to_string).collect();
    let expected = [
        (6, "tensors.safetensors", "is damaged: its SHA-256 is another"),
        (5, "tensors.safetensors", "is damaged: its SHA-256 is another"),
        (4, "state.json", "is damaged: EOF while parsing"),
        (3, "state.json", "is damaged: expected value"),
        (2, "tensors.safetensors", "entity not found"),
    ];
    for (damage, (step, name, fact)) in damage.iter().zip(expected) {
        assert!(damage.starts_with(&format!("{}: {fact}", file(step, name).display())), "{damage}");
    }
    assert_eq!(damage.len(), 5);

    let resumed = store.resume(&state(0, None).fingerprint).unwrap().unwrap();
    assert_eq!(resumed.state.step, 1);
    assert_eq!(names(folder.path()), ["step-00000001"]);
}

#[test]
fn where_all_are_damaged_the_run_does_not_begin_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path(), 9).unwrap();
    let path = save(&store, 1, None, 2).unwrap();
    fs::write(path.join("state.json"), "{\"version\": 2}").unwrap();
    let error = store.resume(&Fingerprint::default()).unwrap_err().to_string();
    assert!(error.ends_with("state.json: is of version 2; this program reads version 1"), "{error}");
    assert_eq!(names(folder.path()), ["step-00000001"]);
}

#[test]
fn a_run_that_goes_back_loses_what_was_behind() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path(), 9).unwrap();
    for step in 1..=4 {
        save(&store, step, None, 2).unwrap();
    }
    store.discard_after(2).unwrap();
    assert_eq!(names(folder.path()), ["step-00000001", "step-00000002"]);
}

#[test]
fn what_a_killed_run_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("step-00000001.partial-7-0")).unwrap();
    fs::write(folder.path().join("step-00000001.partial-7-0/tensors.safetensors"), "x").unwrap();
    fs::write(folder.path().join("mine.partial-7-0"), "x").unwrap();
    let store = CheckpointStore::open(folder.path(), 1).unwrap();
    assert_eq!(names(folder.path()), ["mine.partial-7-0"]);
    drop(store);
}
