//! The command as the tests of its subcommands run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) fn bitnet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bitnet")).args(args).stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn tiny() -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/bitnet-tiny");
    path.to_str().unwrap().to_owned()
}

/// What a command that succeeds prints.
pub(crate) fn printed(args: &[&str]) -> String {
    let output = bitnet(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
