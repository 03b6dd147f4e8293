//! Runs that are killed while they write, and disks that are full: each a process of its own.

use std::env;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use super::*;

/// What a process of this test is to do, and where.
const TASK: &str = "BITNET_CHECKPOINT_TEST";
/// Weights of a large checkpoint: 1 MB.
const LARGE: usize = 1 << 18;

/// Not a test of its own: what the others start.
#[test]
fn process() {
    let Ok(task) = env::var(TASK) else { return };
    let (task, folder) = task.split_once(' ').unwrap();
    let store = CheckpointStore::open(Path::new(folder), 2).unwrap();
    match task {
        "write" => {
            let found = store.resume(&state(0, None).fingerprint).unwrap();
            for step in found.map_or(1, |found| found.state.step + 1).. {
                save(&store, step, None, LARGE).unwrap();
            }
        }
        "fill" => {
            save(&store, 1, None, 2).unwrap();
            let path = store.folder().join("step-00000002");
            let error = save(&store, 2, None, LARGE).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
            assert!(!error.contains('\n'), "{error}");
            save(&store, 3, None, 2).unwrap();
        }
        other => panic!("{other}"),
    }
}

fn test_binary(folder: &Path, task: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["checkpoint::tests::kill::process", "--exact", "--nocapture"]);
    command.env(TASK, format!("{task} {}", folder.display()));
    command
}

#[test]
fn a_kill_at_any_moment_leaves_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = 0;
    let mut left_half = 0;
    for round in 0_u64..25 {
        let mut writer: Child = test_binary(folder.path(), "write").spawn().unwrap();
        // From before its first write to behind several, at another point of a write each time.
        sleep(Duration::from_micros(1000 + round * 7919 % 90_000));
        writer.kill().unwrap();
        writer.wait().unwrap();
        left_half += names(folder.path()).iter().filter(|name| name.contains("partial")).count();
        let found = latest(folder.path()).unwrap();
        assert!(found.damaged.is_empty(), "{:?}", found.damaged);
        match found.checkpoint {
            Some(checkpoint) => {
                check(&checkpoint, None, LARGE);
                assert!(checkpoint.state.step >= last, "{} behind {last}", checkpoint.state.step);
                last = checkpoint.state.step;
            }
            None => assert_eq!(last, 0, "what was there is gone"),
        }
    }
    eprintln!("{last} checkpoints, {left_half} half written");
    assert!(last > 0, "no checkpoint was written in all rounds");
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_one_line_and_leaves_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let binary = test_binary(folder.path(), "fill");
    // As a full disk does, the limit refuses writes behind a number of blocks.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"]).arg(binary.get_program());
    limited.args(binary.get_args());
    limited.env(TASK, format!("fill {}", folder.path().display()));
    // The limit holds for the output of this test as well, where that is a file.
    let output = limited.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(names(folder.path()), ["step-00000001", "step-00000003"]);
    check(&latest(folder.path()).unwrap().checkpoint.unwrap(), None, 2);
}
