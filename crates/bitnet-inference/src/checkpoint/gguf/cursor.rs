//! Reading a file from front to back, every length checked against what is left.

use std::ops::Range;
use std::path::Path;

use crate::{Error, Result};

/// A place in the bytes of a file.
pub(super) struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The first byte of a file.
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self { path, bytes, at: 0 }
    }

    /// Bytes read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error about `what`, which stands at byte `offset`.
    pub(super) fn error(&self, what: &str, offset: usize, expected: &str, got: impl Into<String>) -> Error {
        Error::gguf(self.path, what, offset, expected, got)
    }

    /// The place of the next `len` bytes.
    pub(super) fn take(&mut self, what: &str, len: u64) -> Result<Range<usize>> {
        let left = self.left();
        match usize::try_from(len) {
            Ok(len) if len <= left => {
                let range = self.at..self.at + len;
                self.at = range.end;
                Ok(range)
            }
            _ => Err(self.error(what, self.at, &format!("{len} bytes"), format!("the {left} up to the end"))),
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let range = self.take(what, N as u64)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.bytes[range]);
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// The place of a text: its length in eight bytes, then its bytes.
    pub(super) fn string(&mut self, what: &str) -> Result<Range<usize>> {
        let len = self.u64(what)?;
        self.take(what, len)
    }

    /// A text that names something.
    pub(super) fn name(&mut self, what: &str) -> Result<&'a str> {
        let offset = self.at;
        let range = self.string(what)?;
        std::str::from_utf8(&self.bytes[range])
            .map_err(|_| self.error(what, offset, "a name in UTF-8", "other bytes"))
    }
}

/// A name of the file as part of a message: in quotes, without control characters, not too long.
pub(super) fn quoted(name: &str) -> String {
    const LONGEST: usize = 80;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", &name[..end]),
        None => format!("{name:?}"),
    }
}
