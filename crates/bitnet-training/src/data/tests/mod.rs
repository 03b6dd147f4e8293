//! Data from files to batches.

mod batches;
mod cache;
mod refusals;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bitnet_core::ThreadPool;
use bitnet_inference::{ChatTemplate, Checkpoint, Tokenizer};
use tempfile::TempDir;

use super::{Dataset, PackOptions, Packing, TokenCache, TokenFile};
use crate::Result;

/// Files in a folder of their own, read as the embedded model reads them.
struct Files {
    folder: TempDir,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    pool: ThreadPool,
}

/// `<|end_of_text|>` of the embedded model.
const END: u32 = 2044;

impl Files {
    fn new() -> Self {
        let checkpoint = Checkpoint::embedded().unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            tokenizer: Tokenizer::read(&checkpoint).unwrap().unwrap(),
            template: ChatTemplate::read(&checkpoint).unwrap(),
            pool: ThreadPool::new(2).unwrap(),
        }
    }

    fn cache(&self) -> TokenCache<'_> {
        TokenCache {
            folder: self.folder.path().join("tokens"),
            vocab_size: self.tokenizer.vocab_size(),
            end: Some(END),
            tokenizer: Some(&self.tokenizer),
            template: Some(&self.template),
            pool: &self.pool,
        }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Reads what was just written.
    fn read(&self, name: &str, content: impl AsRef<[u8]>) -> Result<TokenFile> {
        open(&self.cache(), &self.write(name, content))
    }

    /// A file of token ids.
    fn array(&self, name: &str, ids: &[u16]) -> TokenFile {
        let data: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let shape = format!("({},)", ids.len());
        self.read(name, super::npy::tests::file("<u2", &shape, &data)).unwrap()
    }
}

fn open(cache: &TokenCache<'_>, path: &Path) -> Result<TokenFile> {
    cache.open(path, &mut |_, _| ControlFlow::Continue(()))
}

fn options(seq_len: usize, packing: Packing) -> PackOptions {
    PackOptions { seq_len, context_length: 2048, packing }
}

fn dataset(files: Vec<TokenFile>, seq_len: usize, packing: Packing) -> Dataset {
    Dataset::new(files, &options(seq_len, packing)).unwrap()
}
