//! Files of training data, read as documents.

use std::path::Path;

use bitnet_core::ThreadPool;
use bitnet_inference::{ChatTemplate, Message, Tokenizer};
use serde::Deserialize;

use super::documents::Documents;
use super::encoder::Encoder;
use super::in_order::in_order;
use super::npy;
use crate::{Error, Result};

/// Bytes of lines that a thread reads at once.
const CHUNK: usize = 1 << 20;

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Lines,
    Array,
}

impl Kind {
    /// `None` for tokens that need no reading.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        match extension.to_str() {
            Some("jsonl" | "ndjson") => Some(Self::Lines),
            Some("npy") => Some(Self::Array),
            Some("safetensors") => None,
            _ => Some(Self::Text),
        }
    }
}

/// A file, and what reads it.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) bytes: &'a [u8],
    pub(super) vocab_size: usize,
    pub(super) end: Option<u32>,
    pub(super) tokenizer: Option<&'a Tokenizer>,
    pub(super) template: Option<&'a ChatTemplate>,
    pub(super) pool: &'a ThreadPool,
}

/// A line of a file.
#[derive(Deserialize)]
struct Row {
    text: Option<String>,
    messages: Option<Vec<Message>>,
}

impl Source<'_> {
    /// The tokens of all documents. `progress` is called with the bytes of each part that is done.
    pub(super) fn documents(
        &self,
        kind: Kind,
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Documents> {
        let refuse = |reason: String| Error::data(self.path, reason);
        if self.bytes.is_empty() {
            return Err(refuse("is empty".to_owned()));
        }
        let documents = match kind {
            Kind::Text => {
                self.encoder()?.long_text(text(self.bytes).map_err(refuse)?, self.pool, progress)?
            }
            Kind::Lines => self.lines(progress)?,
            Kind::Array => self.array(&npy::integers(self.bytes).map_err(refuse)?)?,
        };
        if documents.ids().is_empty() {
            return Err(refuse("has no documents".to_owned()));
        }
        Ok(documents)
    }

    fn encoder(&self) -> Result<Encoder<'_>> {
        let missing = || Error::data(self.path, "is text, and the model has no tokenizer to read it");
        Encoder::new(self.tokenizer.ok_or_else(missing)?, self.end)
    }

    fn lines(&self, progress: &mut dyn FnMut(usize) -> Result<()>) -> Result<Documents> {
        let encoder = self.encoder()?;
        let mut all = Documents::default();
        let read = |(first, lines): &(usize, &[u8])| {
            let mut documents = Documents::default();
            for (index, line) in lines.split(|&byte| byte == b'\n').enumerate() {
                self.line(&encoder, first + index, line, &mut documents)?;
            }
            Ok(documents)
        };
        in_order(self.pool, &chunks(self.bytes, CHUNK), read, |(_, lines), documents| {
            all.append(&documents);
            progress(lines.len())
        })?;
        Ok(all)
    }

    fn line(
        &self,
        encoder: &Encoder<'_>,
        number: usize,
        line: &[u8],
        documents: &mut Documents,
    ) -> Result<()> {
        let refuse = |reason: String| Error::line(self.path, number, reason);
        match text(line).and_then(row).map_err(refuse)? {
            Some(Row { messages: Some(messages), .. }) => {
                let missing = || refuse("is a conversation, and the model has no chat template".to_owned());
                let template = self.template.filter(|template| template.is_present()).ok_or_else(missing)?;
                encoder.conversation(template, &messages, documents, refuse)
            }
            // A row without a text is no document.
            Some(Row { text: Some(text), .. }) if !text.is_empty() => encoder.text(&text, documents),
            _ => Ok(()),
        }
    }

    fn array(&self, ids: &[i64]) -> Result<Documents> {
        let vocab_size = self.vocab_size;
        if let Some(index) = ids.iter().position(|&id| id < 0 || id >= vocab_size as i64) {
            return Err(Error::TokenOutOfRange {
                path: self.path.to_owned(),
                index,
                id: ids[index],
                vocab_size,
            });
        }
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        let mut documents = Documents::default();
        for document in ids.split_inclusive(|&id| Some(id) == self.end) {
            documents.begin();
            documents.extend(document, true);
        }
        Ok(documents)
    }
}

/// The object of a line, which has a text or messages; none where the line is blank.
fn row(line: &str) -> Result<Option<Row>, String> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    let row: Row = serde_json::from_str(line).map_err(|error| {
        // The line is known better.
        let reason = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        format!("column {}: {}", error.column(), reason.strip_suffix(&place).unwrap_or(&reason))
    })?;
    match (&row.text, &row.messages) {
        (None, None) => Err("has neither \"text\" nor \"messages\"".to_owned()),
        (Some(_), Some(_)) => Err("has both \"text\" and \"messages\"".to_owned()),
        _ => Ok(Some(row)),
    }
}

/// Bytes as text, without the mark that some systems put in front of it.
fn text(bytes: &[u8]) -> Result<&str, String> {
    let text =
        str::from_utf8(bytes).map_err(|error| format!("is not UTF-8 at byte {}", error.valid_up_to()))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Whole lines, at least `size` bytes of them but for the last, with the number of the first.
fn chunks(bytes: &[u8], size: usize) -> Vec<(usize, &[u8])> {
    let (mut chunks, mut rest, mut number) = (Vec::new(), bytes, 1);
    while !rest.is_empty() {
        let behind = rest.get(size..).and_then(|tail| tail.iter().position(|&byte| byte == b'\n'));
        let (chunk, others) = rest.split_at(behind.map_or(rest.len(), |behind| size + behind + 1));
        chunks.push((number, chunk));
        number += chunk.split(|&byte| byte == b'\n').count() - 1;
        rest = others;
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_whole_lines_with_their_numbers() {
        let lines: &[u8] = b"a\nbcd\n\ne\nfgh";
        let expected: [(usize, &[u8]); 3] = [(1, b"a\nbcd\n"), (3, b"\ne\n"), (5, b"fgh")];
        assert_eq!(chunks(lines, 2), expected);
        assert_eq!(chunks(lines, 99), [(1, lines)]);
        assert_eq!(chunks(b"a\n", 1), [(1, &b"a\n"[..])]);
    }
}
