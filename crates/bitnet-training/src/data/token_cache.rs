//! Files tokenized once.

use std::borrow::Cow;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bitnet_core::ThreadPool;
use bitnet_inference::checkpoint::map_file;
use bitnet_inference::convert::safetensors;
use bitnet_inference::{ChatTemplate, Tokenizer};

use super::source::{Kind, Source};
use super::token_file::TokenFile;
use crate::hash::sha256_of_parts;
use crate::mapped::mapped;
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
    /// What tokenizes.
    pub pool: &'t ThreadPool,
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
        let bytes = mapped(path)?;
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
        let mut documents =
            self.source(path, &bytes).documents(kind, &mut self.counting(bytes.len(), progress))?;
        fs::create_dir_all(&self.folder).map_err(|error| Error::io(&self.folder, error))?;
        let (specs, data) = documents.tensors();
        safetensors::write_file(&cached, &specs, |index| Ok(Cow::Borrowed(data[index])))?;
        TokenFile::new(path, key, &mapped(&cached)?, self.vocab_size)
    }

    fn source<'a>(&'a self, path: &'a Path, bytes: &'a [u8]) -> Source<'a> {
        let Self { vocab_size, end, tokenizer, template, pool, .. } = *self;
        Source { path, bytes, vocab_size, end, tokenizer, template, pool }
    }

    /// From the bytes of parts to those of all so far.
    fn counting(
        &self,
        all: usize,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> impl FnMut(usize) -> Result<()> {
        let mut done = 0;
        move |bytes| {
            done += bytes;
            match progress(done, all) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => {
                    Err(Error::Inference(bitnet_inference::Error::Stopped { path: self.folder.clone() }))
                }
            }
        }
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
}

/// Of the tokens of a file in the cache.
fn file_name(path: &Path, key: &str) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}-{}.safetensors", &key[..32])
}
