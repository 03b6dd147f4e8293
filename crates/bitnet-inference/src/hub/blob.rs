//! The content of one file: fetched into a part that survives a cut, checked, then renamed.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use indicatif::ProgressBar;
use ring::digest::{Context, SHA256};

use super::cache::{RepoCache, create_parent};
use super::client::{ATTEMPTS, Client, Content, RemoteFile};
use super::failure::Failure;
use crate::{Error, Result};

const BUFFER_BYTES: usize = 1 << 18;

/// Fetches the content of `file` unless it is there.
pub(super) fn fetch(
    client: &Client<'_>,
    cache: &RepoCache,
    commit: &str,
    file: &RemoteFile,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let before = bar.position();
    bar.set_message(file.name.clone());
    let lock = cache.lock_file(&file.etag)?;
    acquire(&lock, &file.name, bar);
    let blob = cache.blob(&file.etag);
    if !fs::metadata(&blob).is_ok_and(|metadata| metadata.len() == file.size_bytes) {
        let part = cache.part(&file.etag);
        create_parent(&part)?;
        let transfer = Transfer { client, commit, file, part: &part, bar, before };
        transfer.complete()?;
        fs::rename(&part, &blob).map_err(|error| Error::io(blob, error))?;
    }
    bar.set_position(before + file.size_bytes);
    Ok(())
}

/// Waits for the lock; the system gives it back when the file is closed. A file system without locks has none to wait
/// for.
fn acquire(lock: &File, name: &str, bar: &ProgressBar) {
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        bar.set_message(format!("{name} (another process fetches it)"));
        drop(lock.lock());
        bar.set_message(name.to_owned());
    }
}

/// One file on its way into its part.
struct Transfer<'a> {
    client: &'a Client<'a>,
    commit: &'a str,
    file: &'a RemoteFile,
    part: &'a Path,
    bar: &'a ProgressBar,
    /// Position of the bar for the file's first byte.
    before: u64,
}

impl Transfer<'_> {
    /// Fills the part. An attempt that gets further than all before it starts the count anew: a long download over a
    /// bad line comes through.
    fn complete(&self) -> Result<(), Failure> {
        let (mut attempt, mut furthest) = (0, self.part_bytes());
        loop {
            let failure = match self.attempt() {
                Err(Failure::Transient(reason) | Failure::Unreachable(reason)) => reason,
                result => return result,
            };
            let now = self.part_bytes();
            if now > furthest {
                (attempt, furthest) = (0, now);
            }
            attempt += 1;
            if attempt == ATTEMPTS {
                let RemoteFile { name, size_bytes, .. } = self.file;
                let fact = format!(
                    "{now} of {size_bytes} bytes of {name} are here, the next call continues from there"
                );
                return Err(Failure::Transient(format!("{failure}; {fact}")));
            }
            self.client.wait(attempt);
        }
    }

    /// Fetches what the part lacks, and checks the whole.
    fn attempt(&self) -> Result<(), Failure> {
        let mut part =
            self.io(OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.part))?;
        let mut from = self.part_bytes();
        if from > self.file.size_bytes {
            self.io(part.set_len(0))?;
            from = 0;
        }
        let is_resumed = from > 0;
        if from < self.file.size_bytes {
            self.append(&mut part, from)?;
        }
        self.io(part.sync_all())?;
        let Some(sha256) = &self.file.sha256 else { return Ok(()) };
        if self.io(hash(&mut part))? == *sha256 {
            return Ok(());
        }
        drop(part);
        self.io(fs::remove_file(self.part))?;
        let reason = format!("{} arrived damaged: its SHA-256 is not {sha256}", self.file.name);
        // A part may have been damaged on this disk.
        Err(if is_resumed { Failure::Transient(reason) } else { self.client.refuse(reason) })
    }

    fn append(&self, part: &mut File, from: u64) -> Result<(), Failure> {
        let RemoteFile { name, size_bytes, .. } = self.file;
        let Some(content) = self.client.content(self.commit, name, from)? else {
            self.io(fs::remove_file(self.part))?;
            return Err(Failure::Transient(format!("the server of {name} has no byte {from}")));
        };
        if let Some(other) = content.size_bytes.filter(|other| other != size_bytes) {
            return Err(self.wrong_size(other));
        }
        if content.start != from {
            // The server does not resume.
            self.io(part.set_len(content.start))?;
        }
        self.io(part.seek(SeekFrom::Start(content.start)))?;
        self.bar.set_position(self.before + content.start);
        self.bar.reset_eta();
        match self.pour(content, part)? {
            position if position < *size_bytes => {
                Err(Failure::Transient("the connection was cut".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Writes all of `content` and returns the offset of its end.
    fn pour(&self, mut content: Content, part: &mut File) -> Result<u64, Failure> {
        let mut position = content.start;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let length = match content.reader.read(&mut buffer) {
                Ok(0) => return Ok(position),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Transient(format!("the connection was cut: {error}"))),
            };
            position += length as u64;
            if position > self.file.size_bytes {
                return Err(self.wrong_size(position));
            }
            self.io(part.write_all(&buffer[..length]))?;
            self.bar.inc(length as u64);
        }
    }

    fn part_bytes(&self) -> u64 {
        fs::metadata(self.part).map_or(0, |metadata| metadata.len())
    }

    /// The part belongs to other content.
    fn wrong_size(&self, other: u64) -> Failure {
        drop(fs::remove_file(self.part));
        let RemoteFile { name, size_bytes, .. } = self.file;
        self.client.refuse(format!("{name} has {size_bytes} bytes on the hub, its server sends {other}"))
    }

    /// What an error of the file system means. A full disk gets the part's space back.
    fn io<T>(&self, result: io::Result<T>) -> Result<T, Failure> {
        result.map_err(|error| {
            if !matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
                return Error::io(self.part, error).into();
            }
            drop(fs::remove_file(self.part));
            let RemoteFile { name, size_bytes, .. } = self.file;
            let folder = self.part.parent().unwrap_or(self.part).display();
            self.client.refuse(format!("the disk is full: {name} needs {size_bytes} bytes in {folder}"))
        })
    }
}

/// SHA-256 of the whole file, in hexadecimal digits.
fn hash(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => context.update(&buffer[..length]),
        }
    }
    let mut digits = String::with_capacity(64);
    for byte in context.finish().as_ref() {
        write!(digits, "{byte:02x}").expect("a string takes everything");
    }
    Ok(digits)
}
