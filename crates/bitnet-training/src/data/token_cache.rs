//! Files tokenized once.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bitnet_core::Buffer;
use bitnet_inference::checkpoint::map_file;
use bitnet_inference::convert::safetensors;
use bitnet_inference::{ChatTemplate, Message, Tokenizer};
use serde::Deserialize;

use super::documents::Documents;
use super::encoder::Encoder;
use super::npy;
use super::token_file::TokenFile;
use crate::hash::sha256_of_parts;
use crate::{Error, Result};

/// Part of every key: to be counted up when tokens are made differently of the same files.
const VERSION: &str = "1";

/// A folder of token files, each named by what it was made of: bytes of the source, tokenizer, template, end token. A file
/// that has changed has another name there.
#[derive(Debug)]
pub struct TokenCache<'t> {
    /// The folder; it is made when there is something to put into it.
    pub folder: PathBuf,
    /// Ids must be below.
    pub vocab_size: usize,
    /// What ends a document.
    pub end: Option<u32>,
    /// What reads texts; token files need none.
    pub tokenizer: Option<&'t Tokenizer>,
    /// What conversations are written by.
    pub template: Option<&'t ChatTemplate>,
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Lines,
    Array,
}

impl Kind {
    /// `None` for tokens that need no reading.
    fn of(path: &Path) -> Option<Self> {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        match extension.to_str() {
            Some("jsonl" | "ndjson") => Some(Self::Lines),
            Some("npy") => Some(Self::Array),
            Some("safetensors") => None,
            _ => Some(Self::Text),
        }
    }
}

/// A line of a file.
#[derive(Deserialize)]
struct Row {
    text: Option<String>,
    messages: Option<Vec<Message>>,
}

impl TokenCache<'_> {
    /// The tokens of a file, from the cache where they are there. `progress` is called with the bytes that are tokenized
    /// and those of the file, and stops with a break.
    ///
    /// Errors: [`Error::Data`] names file, line and fact; [`Error::TokenOutOfRange`]; those of files, tokenizers and
    /// templates as [`Error::Inference`], and there `Stopped`.
    pub fn open(
        &self,
        path: &Path,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<TokenFile> {
        let bytes = map(path)?;
        let kind = Kind::of(path);
        let key = self.key(kind, &bytes)?;
        let Some(kind) = kind else { return TokenFile::new(path, key, &bytes, self.vocab_size) };
        let cached = self.folder.join(file_name(path, &key));
        if let Some(stored) = map_file(&cached)? {
            match TokenFile::new(path, key.clone(), &stored, self.vocab_size) {
                // A damaged file is made anew.
                Err(Error::Inference(_) | Error::Data { .. }) => {}
                read => return read,
            }
        }
        let documents = self.documents(path, kind, &bytes, progress)?;
        fs::create_dir_all(&self.folder).map_err(|error| Error::io(&self.folder, error))?;
        let (specs, data) = documents.tensors();
        safetensors::write_file(&cached, &specs, |index| Ok(Cow::Borrowed(data[index])))?;
        TokenFile::new(path, key, &map(&cached)?, self.vocab_size)
    }

    /// What tokens depend on, as one number.
    fn key(&self, kind: Option<Kind>, bytes: &[u8]) -> Result<String> {
        let how = format!("{VERSION} {kind:?} {:?}", self.end);
        let reads_text = matches!(kind, Some(Kind::Text | Kind::Lines));
        let tokenizer = self.tokenizer.filter(|_| reads_text).map(Tokenizer::to_json).transpose()?;
        let mut parts = vec![how.as_bytes(), tokenizer.as_deref().unwrap_or_default().as_bytes()];
        if let Some(template) = self.template.filter(|_| kind == Some(Kind::Lines)) {
            let texts = [template.source().unwrap_or_default(), template.bos_token(), template.eos_token()];
            parts.extend(texts.map(str::as_bytes));
        }
        parts.push(bytes);
        Ok(sha256_of_parts(&parts))
    }

    fn documents(
        &self,
        path: &Path,
        kind: Kind,
        bytes: &[u8],
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Documents> {
        if bytes.is_empty() {
            return Err(Error::data(path, "is empty"));
        }
        let mut done = 0;
        let mut progress = |bytes_done: usize| {
            // Lines count their ends, also where the last has none.
            done += bytes_done;
            match progress(done.min(bytes.len()), bytes.len()) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => {
                    Err(Error::Inference(bitnet_inference::Error::Stopped { path: self.folder.clone() }))
                }
            }
        };
        let mut documents = Documents::default();
        match kind {
            Kind::Text => {
                let text = text(bytes).map_err(|reason| Error::data(path, reason))?;
                self.encoder(path)?.text(text, &mut documents, &mut progress)?;
            }
            Kind::Lines => self.lines(path, bytes, &mut documents, &mut progress)?,
            Kind::Array => {
                let ids = npy::integers(bytes).map_err(|reason| Error::data(path, reason))?;
                self.array(path, &ids, &mut documents)?;
            }
        }
        if documents.ids().is_empty() {
            return Err(Error::data(path, "has no documents"));
        }
        Ok(documents)
    }

    fn encoder(&self, path: &Path) -> Result<Encoder<'_>> {
        let missing = || Error::data(path, "is text, and the model has no tokenizer to read it");
        Encoder::new(self.tokenizer.ok_or_else(missing)?, self.end)
    }

    fn lines(
        &self,
        path: &Path,
        bytes: &[u8],
        documents: &mut Documents,
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let encoder = self.encoder(path)?;
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let refuse = |reason: String| Error::line(path, index + 1, reason);
            let line = text(line).map_err(refuse)?;
            match row(line).map_err(refuse)? {
                None => {}
                Some(Row { messages: None, text }) => {
                    let text = text.unwrap_or_default();
                    // A row without a text is no document.
                    if !text.is_empty() {
                        encoder.text(&text, documents, &mut |_| Ok(()))?;
                    }
                }
                Some(Row { messages: Some(messages), .. }) => {
                    let missing =
                        || refuse("is a conversation, and the model has no chat template".to_owned());
                    let template =
                        self.template.filter(|template| template.is_present()).ok_or_else(missing)?;
                    encoder.conversation(template, &messages, documents, refuse)?;
                }
            }
            progress(line.len() + 1)?;
        }
        Ok(())
    }

    fn array(&self, path: &Path, ids: &[i64], documents: &mut Documents) -> Result<()> {
        let vocab_size = self.vocab_size;
        if let Some(index) = ids.iter().position(|&id| id < 0 || id >= vocab_size as i64) {
            let (path, id) = (path.to_owned(), ids[index]);
            return Err(Error::TokenOutOfRange { path, index, id, vocab_size });
        }
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        for document in ids.split_inclusive(|&id| Some(id) == self.end) {
            documents.begin();
            documents.extend(document, true);
        }
        Ok(())
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

fn map(path: &Path) -> Result<Buffer> {
    map_file(path)?.ok_or_else(|| Error::io(path, io::ErrorKind::NotFound.into()))
}

/// Of the tokens of a file in the cache.
fn file_name(path: &Path, key: &str) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}-{}.safetensors", &key[..32])
}
