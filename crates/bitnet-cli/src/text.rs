//! Text that a user names: a prompt, a text to evaluate.

use std::io::Read;
use std::path::{Path, PathBuf};

use bitnet_inference::Error;

use crate::failure::Failure;
use crate::interrupt;

/// The text of a file as it is, or of standard input for `-`.
pub(crate) fn read(path: PathBuf) -> Result<String, Failure> {
    let is_stdin = path == Path::new("-");
    let path = if is_stdin { PathBuf::from("standard input") } else { path };
    interrupt::or_done(move || {
        let mut bytes = Vec::new();
        let read = if is_stdin {
            std::io::stdin().read_to_end(&mut bytes).map(drop)
        } else {
            std::fs::read(&path).map(|content| bytes = content)
        };
        read.map_err(|source| Error::io(&path, source))?;
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Failure::Other(format!("{}: not UTF-8 at byte {at}", path.display()))
        })
    })
}
