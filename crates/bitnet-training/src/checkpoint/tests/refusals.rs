//! Runs that cannot go on, and systems that cannot write.

use std::fs;

use super::*;
use crate::Error;

#[test]
fn another_run_is_refused_by_all_in_which_it_differs() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path(), 9).unwrap();
    let path = save(&store, 3, None, 2).unwrap();
    fs::create_dir(folder.path().join("step-00000004")).unwrap();
    let mut other = state(3, None).fingerprint;
    other.set("seq_len", 256);
    other.set("eval.txt", "cd34");
    let error = store.resume(&other).unwrap_err();
    assert!(matches!(&error, Error::Mismatch { differences, .. } if differences.len() == 2));
    assert_eq!(
        error.to_string(),
        format!(
            "{}: cannot go on from here: eval.txt was not there and is cd34; seq_len was 128 and is 256",
            path.display()
        )
    );
    assert_eq!(names(folder.path()), ["step-00000003", "step-00000004"], "nothing is removed");
}

#[test]
fn a_folder_is_written_by_one_run_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path(), 1).unwrap();
    let error = CheckpointStore::open(folder.path(), 1).unwrap_err().to_string();
    assert_eq!(error, format!("{}: another run is writing its checkpoints here", folder.path().display()));
    drop(store);
    CheckpointStore::open(folder.path(), 1).unwrap();
}

#[test]
fn a_folder_that_cannot_be_made_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = CheckpointStore::open(&file.join("checkpoints"), 1).unwrap_err();
    assert!(matches!(error, Error::Inference(bitnet_inference::Error::Io { .. })), "{error}");
    assert!(error.to_string().starts_with(&format!("{}: ", file.join("checkpoints").display())));
}

#[cfg(unix)]
#[test]
fn a_folder_that_turns_read_only_keeps_its_checkpoints() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path(), 1).unwrap();
    save(&store, 1, None, 2).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    // The superuser writes all the same.
    let is_refused = fs::write(folder.path().join("probe"), "").is_err();
    let saved = save(&store, 2, None, 2);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if !is_refused {
        eprintln!("skipped: this user may write everywhere");
        return;
    }
    let path = folder.path().join("step-00000002");
    assert!(saved.unwrap_err().to_string().starts_with(&format!("{}: Permission denied", path.display())));
    check(&latest(folder.path()).unwrap().checkpoint.unwrap(), None, 2);
}
