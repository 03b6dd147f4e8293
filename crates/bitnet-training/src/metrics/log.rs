//! A file with a line of JSON for each step, or for some.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// What a line holds.
pub trait Record: Serialize + DeserializeOwned {
    /// What an error says is not there.
    const NAME: &'static str;

    /// The step it is of.
    fn step(&self) -> u64;
}

/// The records of a run, appended step by step.
#[derive(Debug)]
pub struct StepLog<R> {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    len: u64,
    records: PhantomData<R>,
}

impl<R: Record> StepLog<R> {
    /// Goes on with a file behind `step`, or begins one: what it has of later steps is dropped, since the run will do them
    /// again, and so is a last line that a killed run has torn. Step 0 begins anew.
    ///
    /// Errors: [`Error::Data`] for a line that has no record; that of the system.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let io = |error| Error::io(path, error);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let mut log = Self { path: path.to_owned(), file, len: 0, records: PhantomData };
        log.truncate_after(step)?;
        Ok(log)
    }

    /// Adds a step.
    ///
    /// Errors: that of the system; the lines before stay whole.
    pub fn append(&mut self, record: &R) -> Result<()> {
        let line = serde_json::to_vec(record).map_err(|error| Error::io(&self.path, error.into()))?;
        let line = [&line[..], b"\n"].concat();
        if let Err(error) = self.file.write_all(&line) {
            // A full disk takes a part of a line.
            drop(self.file.set_len(self.len).and_then(|()| self.file.seek(SeekFrom::End(0))));
            return Err(Error::io(&self.path, error));
        }
        self.len += line.len() as u64;
        Ok(())
    }

    /// Drops what is behind a step, which the run has gone back to.
    ///
    /// Errors: as [`Self::open`].
    pub fn truncate_after(&mut self, step: u64) -> Result<()> {
        let io = |error| Error::io(&self.path, error);
        self.file.rewind().map_err(io)?;
        let lines = lines::<R>(&self.file, &self.path)?;
        let kept = lines.into_iter().take_while(|(record, _)| record.step() <= step);
        self.len = kept.last().map_or(0, |(_, end)| end);
        self.file.set_len(self.len).map_err(io)?;
        self.file.seek(SeekFrom::End(0)).map_err(io).map(drop)
    }
}

/// The records of a file. A run may be writing it: a last line without an end is left out.
///
/// Errors: [`Error::Data`] names the line that has no record; that of the system.
pub fn read<R: Record>(path: &Path) -> Result<Vec<R>> {
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    Ok(lines(&file, path)?.into_iter().map(|(record, _)| record).collect())
}

/// Records, and where the line of each ends.
fn lines<R: Record>(file: &File, path: &Path) -> Result<Vec<(R, u64)>> {
    let mut reader = BufReader::new(file);
    let (mut lines, mut line, mut end) = (Vec::new(), Vec::new(), 0);
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(|error: io::Error| Error::io(path, error))?;
        if line.last() != Some(&b'\n') {
            return Ok(lines);
        }
        end += line.len() as u64;
        let missing = |error| format!("has no {}: {error}", R::NAME);
        let record = serde_json::from_slice(&line)
            .map_err(|error: serde_json::Error| Error::line(path, lines.len() + 1, missing(error)))?;
        lines.push((record, end));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::metrics::{LossParts, Metrics};

    fn read(path: &Path) -> Result<Vec<Metrics>> {
        super::read(path)
    }

    fn metrics(step: u64) -> Metrics {
        let loss = 4.0 - step as f64 / 8.0;
        let parts = LossParts::default();
        Metrics { step, loss, lr: 1e-3, grad_norm: 0.5, parts, tokens_per_s: 1234.5, eval_loss: None }
    }

    fn write(path: &Path, from: u64, steps: impl IntoIterator<Item = u64>) {
        let mut log = StepLog::open(path, from).unwrap();
        steps.into_iter().for_each(|step| log.append(&metrics(step)).unwrap());
    }

    #[test]
    fn a_resumed_run_drops_what_it_does_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        write(&path, 0, 1..=7);
        let whole = fs::read(&path).unwrap();
        write(&path, 4, 5..=7);
        assert_eq!(fs::read(&path).unwrap(), whole);
        assert_eq!(read(&path).unwrap(), (1..=7).map(metrics).collect::<Vec<_>>());
        let mut log = StepLog::open(&path, 7).unwrap();
        log.truncate_after(2).unwrap();
        log.append(&metrics(3)).unwrap();
        assert_eq!(read(&path).unwrap(), (1..=3).map(metrics).collect::<Vec<_>>());
        write(&path, 0, [1]);
        assert_eq!(read(&path).unwrap(), [metrics(1)]);
    }

    #[test]
    fn a_torn_line_is_dropped_and_another_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        write(&path, 0, 1..=2);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], br#"{"step":3,"lo"#].concat()).unwrap();
        assert_eq!(read(&path).unwrap().len(), 2);
        write(&path, 2, [3]);
        assert_eq!(read(&path).unwrap(), (1..=3).map(metrics).collect::<Vec<_>>());
        fs::write(&path, [&whole[..], b"{\"step\":3}\n"].concat()).unwrap();
        for error in [read(&path).unwrap_err(), StepLog::<Metrics>::open(&path, 9).unwrap_err()] {
            let expected = format!("{}, line 3: has no metrics: missing field `loss`", path.display());
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_loss_that_is_no_number_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let bad = Metrics { loss: f64::NAN, eval_loss: Some(2.5), ..metrics(1) };
        StepLog::open(&path, 0).unwrap().append(&bad).unwrap();
        let line = fs::read_to_string(&path).unwrap();
        assert_eq!(
            line,
            "{\"step\":1,\"loss\":null,\"lr\":0.001,\"grad_norm\":0.5,\"tokens_per_s\":1234.5,\"eval_loss\":2.5}\n"
        );
        let found = &read(&path).unwrap()[0];
        assert!(found.loss.is_nan() && found.eval_loss == Some(2.5));
    }

    #[test]
    fn parts_of_a_loss_are_there_where_it_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let parts = LossParts { logit_kl: Some(0.25), relation_kl: None };
        let distilled = Metrics { parts, ..metrics(1) };
        StepLog::open(&path, 0).unwrap().append(&distilled).unwrap();
        let line = fs::read_to_string(&path).unwrap();
        assert!(line.contains(r#""grad_norm":0.5,"logit_kl":0.25,"tokens_per_s""#), "{line}");
        assert_eq!(read(&path).unwrap(), [distilled]);
    }
}
