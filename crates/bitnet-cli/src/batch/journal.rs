//! Rows as they come, in a file that outlives the process.
//!
//! Behind a header there is a JSON object a line, whatever the format of the results. A line is appended as a whole, so
//! that a process that is killed leaves at most one torn line, the last; it is dropped when the file is taken up again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bitnet_inference::{Error, atomic_file};
use serde::Serialize;

use super::format::{Format, escape};
use super::header::Header;
use super::prompts::{Prompt, Prompts};
use super::row::Row;
use crate::failure::Failure;

/// A file of rows in the making.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    header: Header,
    /// Bytes of whole lines.
    len: u64,
    rows: usize,
    failed: usize,
    first_error: Option<String>,
}

impl Journal {
    /// Begins a file; what was there is gone.
    pub(super) fn create(path: &Path, header: Header) -> Result<Self, Failure> {
        let io = |error| Error::io(path, error);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(io)?;
        lock(&file, path)?;
        file.set_len(0).map_err(io)?;
        let line = line(&header);
        let mut journal = Self::empty(path, file, header);
        journal.append_line(&line)?;
        Ok(journal)
    }

    /// Goes on with the file of a run that did not end; `prompts` then are at the first one without a row. `None` where
    /// there is nothing to go on with.
    ///
    /// Errors: in one line, where it was made with other options or from other prompts.
    pub(super) fn resume(
        path: &Path,
        asked: &Header,
        prompts: &mut Prompts,
    ) -> Result<Option<Self>, Failure> {
        let io = |error| Error::io(path, error);
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(io)?,
        };
        lock(&file, path)?;
        let mut lines = Lines::new(&file);
        let Some(first) = lines.next_whole().map_err(io)? else { return Ok(None) };
        let refuse =
            |reason: &str| Failure::Other(format!("{}: {reason}; --force begins anew", path.display()));
        let header: Header =
            serde_json::from_slice(&first).map_err(|_| refuse("is no file of a batch in the making"))?;
        if !header.goes_on_with(asked) {
            return Err(refuse("was made with another model or other options"));
        }
        let mut journal = Self::empty(path, file.try_clone().map_err(io)?, header);
        journal.len = lines.end;
        while let Some(line) = lines.next_whole().map_err(io)? {
            let row = match serde_json::from_slice::<Row>(&line) {
                Ok(row) if row.index == journal.rows => row,
                // A system that crashed may leave a last line of anything.
                _ if lines.is_at_end().map_err(io)? => break,
                _ => return Err(refuse(&format!("is damaged in line {}", journal.rows + 2))),
            };
            check(&row, prompts)?;
            journal.count(&row);
            journal.len = lines.end;
        }
        journal.file.set_len(journal.len).map_err(io)?;
        journal.file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(Some(journal))
    }

    fn empty(path: &Path, file: File, header: Header) -> Self {
        Self { path: path.to_owned(), file, header, len: 0, rows: 0, failed: 0, first_error: None }
    }

    /// What its rows depend on.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Rows it has.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// How many rows hold an error, and the first of them.
    pub(super) fn failed(&self) -> Option<(usize, &str)> {
        Some((self.failed, self.first_error.as_deref()?))
    }

    /// Adds a row.
    ///
    /// Errors: [`Error::Io`]; the rows so far stay whole.
    pub(super) fn append(&mut self, row: &Row) -> Result<(), Error> {
        self.append_line(&line(row))?;
        self.count(row);
        Ok(())
    }

    fn count(&mut self, row: &Row) {
        self.rows += 1;
        if let Some(error) = &row.error {
            self.failed += 1;
            self.first_error.get_or_insert_with(|| format!("row {}: {error}", row.index));
        }
    }

    fn append_line(&mut self, line: &[u8]) -> Result<(), Error> {
        if let Err(error) = self.file.write_all(line) {
            // A full disk takes a part of a line.
            drop(self.file.set_len(self.len));
            return Err(Error::io(&self.path, error));
        }
        self.len += line.len() as u64;
        Ok(())
    }

    /// Writes the results as a whole, and removes the file.
    ///
    /// Errors: [`Error::Io`]; the rows stay where they are.
    pub(super) fn finish(mut self, output: &Path, format: Format) -> Result<(), Error> {
        let io = |error| Error::io(&self.path, error);
        self.file.seek(SeekFrom::Start(0)).map_err(io)?;
        let mut rows = BufReader::new(&self.file);
        rows.skip_until(b'\n').map_err(io)?;
        atomic_file::write(output, |file| {
            write_results(rows, format, file).map_err(|error| Error::io(output, error))
        })?;
        fs::remove_file(&self.path).map_err(io)
    }
}

/// Nobody else may write it.
fn lock(file: &File, path: &Path) -> Result<(), Failure> {
    match file.try_lock() {
        // Not every file system has locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::Other(format!("{}: another run is writing it", path.display())))
        }
    }
}

/// A line of JSON.
fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("text, numbers and maps with text for keys");
    line.push(b'\n');
    line
}

/// Whether the next prompt is that of a row.
fn check(row: &Row, prompts: &mut Prompts) -> Result<(), Failure> {
    let next = prompts.next().transpose()?;
    let is_same =
        |prompt: &Prompt| prompt.text.as_ref().ok() == row.prompt.as_ref() && prompt.fields == row.fields;
    if next.as_ref().is_some_and(is_same) {
        return Ok(());
    }
    Err(Failure::Other(format!(
        "{}: row {} is not the one that was begun with; give the same prompts, or --force to begin anew",
        prompts.path().display(),
        row.index
    )))
}

/// Rows, a JSON object a line, in another format.
fn write_results(mut rows: impl BufRead, format: Format, file: &mut dyn Write) -> io::Result<()> {
    let parsed = |line: io::Result<String>| Ok::<Row, io::Error>(serde_json::from_str(&line?)?);
    match format {
        Format::Jsonl => io::copy(&mut rows, file).map(drop),
        Format::Txt => rows
            .lines()
            .map(parsed)
            .try_for_each(|row| writeln!(file, "{}", escape(row?.text.as_deref().unwrap_or_default()))),
        Format::Csv => {
            let mut table = csv::Writer::from_writer(file);
            table.write_record(Row::NAMES)?;
            for row in rows.lines().map(parsed) {
                table.write_record(row?.cells())?;
            }
            table.flush()
        }
    }
}

/// Whole lines of a file.
struct Lines<'f> {
    reader: BufReader<&'f File>,
    /// Bytes of the lines so far.
    end: u64,
}

impl<'f> Lines<'f> {
    fn new(file: &'f File) -> Self {
        Self { reader: BufReader::new(file), end: 0 }
    }

    /// The next line that has an end.
    fn next_whole(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(None);
        }
        self.end += line.len() as u64;
        Ok(Some(line))
    }

    fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.reader.by_ref().fill_buf()?.is_empty())
    }
}
