//! Writing a GGUF file, version 3.

use std::path::Path;

use super::header::{ALIGNMENT, MAGIC};
use super::metadata::Kind;
use super::split;
use super::tensor_type::TensorType;
use crate::atomic_file;
use crate::{Error, Result};

const VERSION: u32 = 3;

/// The front of a file while it is being put together.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    keys: Vec<u8>,
    key_count: u64,
    tensors: Vec<u8>,
    /// Sizes of the tensors, in order.
    sizes: Vec<usize>,
    /// Where the next tensor goes, from the first.
    offset: usize,
}

impl Writer {
    /// A text.
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key, Kind::Text);
        text(&mut self.keys, value);
    }

    /// A number that counts something, or an id.
    pub(crate) fn count(&mut self, key: &str, value: usize) -> Result<()> {
        let expected = "a number below 2^32";
        let value =
            u32::try_from(value).map_err(|_| Error::gguf(key, "key", 0, expected, value.to_string()))?;
        self.key(key, Kind::U32);
        self.keys.extend(value.to_le_bytes());
        Ok(())
    }

    /// Any number.
    pub(crate) fn number(&mut self, key: &str, value: f32) {
        self.key(key, Kind::F32);
        self.keys.extend(value.to_le_bytes());
    }

    /// A truth value.
    pub(crate) fn flag(&mut self, key: &str, value: bool) {
        self.key(key, Kind::Bool);
        self.keys.push(u8::from(value));
    }

    /// A list of texts.
    pub(crate) fn texts<'t>(&mut self, key: &str, values: impl ExactSizeIterator<Item = &'t str>) {
        self.list(key, Kind::Text, values.len());
        values.for_each(|value| text(&mut self.keys, value));
    }

    /// A list of whole numbers.
    pub(crate) fn integers(&mut self, key: &str, values: &[i32]) {
        self.list(key, Kind::I32, values.len());
        self.keys.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// What a part of a model in several files says of itself: its number, from 0, how many parts there are, and tensors
    /// in all of them. The types are those that llama.cpp asks for.
    ///
    /// Errors: [`Error::Gguf`] for more parts than a name has digits for.
    pub(crate) fn part(&mut self, number: usize, count: usize, tensors: usize) -> Result<()> {
        let too_many = || Error::gguf(split::COUNT, "key", 0, "a number below 65536", count.to_string());
        let count = u16::try_from(count).map_err(|_| too_many())?;
        for (key, value) in [(split::NUMBER, number as u16), (split::COUNT, count)] {
            self.key(key, Kind::U16);
            self.keys.extend(value.to_le_bytes());
        }
        self.key(split::TENSORS, Kind::I32);
        self.keys.extend((tensors as i32).to_le_bytes());
        Ok(())
    }

    /// A key of another file, its type and value as they are there.
    pub(crate) fn raw(&mut self, key: &str, type_and_value: &[u8]) {
        text(&mut self.keys, key);
        self.keys.extend(type_and_value);
        self.key_count += 1;
    }

    /// A tensor of `dims`, row-major, whose bytes follow in [`Self::write`].
    ///
    /// Errors: [`Error::Gguf`] for a shape that is not whole blocks.
    pub(crate) fn tensor(&mut self, name: &str, tensor_type: TensorType, dims: &[usize]) -> Result<()> {
        let (cols, rows) = dims.split_last().map_or((1, 1), |(cols, rows)| (*cols, rows.iter().product()));
        let size = tensor_type.size_bytes(rows, cols).ok_or_else(|| {
            let expected = format!("rows in blocks of {} for {}", tensor_type.block().0, tensor_type.name());
            Error::gguf(name, "tensor", 0, &expected, format!("shape {dims:?}"))
        })?;
        text(&mut self.tensors, name);
        self.tensors.extend((dims.len() as u32).to_le_bytes());
        self.tensors.extend(dims.iter().rev().flat_map(|&dim| (dim as u64).to_le_bytes()));
        self.tensors.extend(tensor_type.number().to_le_bytes());
        self.tensors.extend((self.offset as u64).to_le_bytes());
        self.sizes.push(size);
        self.offset += size.next_multiple_of(ALIGNMENT);
        Ok(())
    }

    /// Bytes of all tensors.
    pub(crate) fn tensor_bytes(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// Writes the file beside `path` and renames it; `data(i)` gives the bytes of tensor `i`, in order.
    ///
    /// Errors: [`Error::Io`], and those of `data`; nothing is left behind then.
    pub(crate) fn write(self, path: &Path, mut data: impl FnMut(usize) -> Result<Vec<u8>>) -> Result<()> {
        let mut front = MAGIC.to_vec();
        front.extend(VERSION.to_le_bytes());
        front.extend((self.sizes.len() as u64).to_le_bytes());
        front.extend(self.key_count.to_le_bytes());
        front.extend(self.keys);
        front.extend(self.tensors);
        front.resize(front.len().next_multiple_of(ALIGNMENT), 0);
        atomic_file::write(path, |file| {
            let io = |source| Error::io(path, source);
            file.write_all(&front).map_err(io)?;
            for (index, size) in self.sizes.iter().enumerate() {
                let bytes = data(index)?;
                assert_eq!(bytes.len(), *size, "the bytes of tensor {index} follow from its shape");
                file.write_all(&bytes).map_err(io)?;
                file.write_all(&[0; ALIGNMENT][..size.next_multiple_of(ALIGNMENT) - size]).map_err(io)?;
            }
            Ok(())
        })
    }

    fn key(&mut self, key: &str, kind: Kind) {
        self.raw(key, &kind.number().to_le_bytes());
    }

    fn list(&mut self, key: &str, kind: Kind, len: usize) {
        self.key(key, Kind::Array);
        self.keys.extend(kind.number().to_le_bytes());
        self.keys.extend((len as u64).to_le_bytes());
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
