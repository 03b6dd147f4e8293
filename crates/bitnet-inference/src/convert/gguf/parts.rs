//! The files that a model is written to: one, or parts of a size as llama.cpp's `gguf-split` makes them.
//!
//! The first has all keys, each says which it is and how many there are; see `checkpoint/gguf/split.rs`, which reads
//! them.

use std::fs;
use std::path::{Path, PathBuf};

use super::tensors::Tensor;
use crate::Result;
use crate::atomic_file::refuse_existing;
use crate::checkpoint::gguf::{Writer, part_paths};

/// What is to be written where.
pub(super) struct Parts(Vec<Part>);

struct Part {
    path: PathBuf,
    /// Tensors in the parts before.
    before: usize,
    front: Writer,
}

impl Parts {
    /// Divides tensors into files of at most `bytes` of them, unless one is larger; `first` has the keys. Without a limit
    /// there is one file, at `path`.
    ///
    /// Errors: [`crate::Error::Gguf`] for a shape that is not whole blocks, or too many parts; [`crate::Error::Io`] for a
    /// part that is there already.
    pub(super) fn plan(
        path: &Path,
        first: Writer,
        tensors: &[Tensor<'_>],
        bytes: Option<usize>,
    ) -> Result<Self> {
        let mut fronts = vec![(0, first)];
        for (index, tensor) in tensors.iter().enumerate() {
            let mut added = Writer::default();
            added.tensor(&tensor.name, tensor.encoding, &tensor.dims)?;
            let (before, front) = fronts.last().expect("there is a first part");
            let has_room = |limit| front.tensor_bytes() + added.tensor_bytes() <= limit;
            if index > *before && !bytes.is_none_or(has_room) {
                fronts.push((index, Writer::default()));
            }
            let (_, front) = fronts.last_mut().expect("there is a first part");
            front.tensor(&tensor.name, tensor.encoding, &tensor.dims)?;
        }
        let count = fronts.len();
        let mut parts = Vec::with_capacity(count);
        for (number, (path, (before, mut front))) in
            part_paths(path, count).into_iter().zip(fronts).enumerate()
        {
            if count > 1 {
                refuse_existing(&path)?;
                front.part(number, count, tensors.len())?;
            }
            parts.push(Part { path, before, front });
        }
        Ok(Self(parts))
    }

    /// How many files there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Bytes of all tensors.
    pub(super) fn tensor_bytes(&self) -> usize {
        self.0.iter().map(|part| part.front.tensor_bytes()).sum()
    }

    /// Writes the files; `data(i)` gives the bytes of tensor `i`. The first part stands for all and comes last.
    ///
    /// Errors: [`crate::Error::Io`], and those of `data`; no part is left behind then.
    pub(super) fn write(self, mut data: impl FnMut(usize) -> Result<Vec<u8>>) -> Result<()> {
        let mut written = Vec::new();
        let done = self.0.into_iter().rev().try_for_each(|part| {
            part.front.write(&part.path, |index| data(part.before + index))?;
            written.push(part.path);
            Ok(())
        });
        if done.is_err() {
            for path in written {
                // There is nothing to say beyond the first error.
                let _ = fs::remove_file(path);
            }
        }
        done
    }
}
