//! Chats in files.

use std::fs;
use std::path::Path;

use bitnet_inference::{Error, Message, atomic_file};
use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::failure::Failure;

/// What a file holds, as JSON.
#[derive(Serialize)]
struct Saved<'a> {
    messages: &'a [Message],
    settings: &'a Settings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Loaded {
    messages: Vec<Message>,
    settings: Settings,
}

/// Writes a chat; a file that was there is replaced as a whole.
pub(super) fn save(path: &Path, messages: &[Message], settings: &Settings) -> Result<(), Error> {
    atomic_file::write(path, |file| {
        serde_json::to_writer_pretty(&mut *file, &Saved { messages, settings })
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(|error| Error::io(path, error))
    })
}

/// Reads what [`save`] wrote.
pub(super) fn load(path: &Path) -> Result<(Vec<Message>, Settings), Failure> {
    let json = fs::read(path).map_err(|error| Error::io(path, error))?;
    let Loaded { messages, settings } = serde_json::from_slice(&json)
        .map_err(|error| Failure::Other(format!("{}: is no saved chat: {error}", path.display())))?;
    Ok((messages, settings))
}
