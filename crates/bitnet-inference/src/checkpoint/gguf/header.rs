//! The front of a file: versions, keys, and where each tensor is.
//!
//! Source: `docs/gguf.md` of ggml.

use std::ops::Range;
use std::path::Path;

use bitnet_core::Buffer;

use super::cursor::{Cursor, quoted};
use super::metadata::Metadata;
use super::tensor_type::{Number, TensorType};
use crate::{Error, Result};

pub(super) const MAGIC: [u8; 4] = *b"GGUF";
/// The alignment of tensors in a file that does not name one.
pub(super) const ALIGNMENT: usize = 32;
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
/// The most dimensions that ggml knows.
const DIMENSIONS: u32 = 4;
const FILE_TYPE: &str = "general.file_type";

/// All that stands in front of the tensors, checked.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
}

/// A tensor and where it is.
#[derive(Debug, Clone)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    pub(super) tensor_type: TensorType,
    /// Row-major, the last one contiguous: the file has them the other way round.
    pub(super) dims: Vec<usize>,
    /// The file it is in, where there are several.
    pub(super) part: usize,
    /// Its bytes in the file.
    pub(super) bytes: Range<usize>,
}

impl TensorInfo {
    /// Rows and columns; one row for a vector.
    pub(super) fn shape(&self) -> (usize, usize) {
        let cols = self.dims.last().copied().unwrap_or(1);
        (self.dims.iter().rev().skip(1).product(), cols)
    }
}

impl Header {
    /// Reads and checks the front of a file.
    pub(super) fn read(path: &Path, bytes: &Buffer) -> Result<Self> {
        let mut cursor = Cursor::new(path, bytes);
        let version = version(&mut cursor)?;
        let tensors = cursor.u64("the number of tensors")?;
        let keys = cursor.u64("the number of keys")?;
        let metadata = Metadata::read(path, bytes, &mut cursor, keys)?;
        let alignment = alignment(&metadata)?;
        let tensors =
            (0..tensors).map(|_| Unplaced::read(&mut cursor, &metadata)).collect::<Result<Vec<_>>>()?;
        // Some writers end a file without tensors here, without the padding.
        let start = cursor.at().next_multiple_of(alignment);
        let tensors = tensors
            .into_iter()
            .map(|tensor| tensor.place(path, start, alignment, bytes.len()))
            .collect::<Result<Vec<_>>>()?;
        refuse_overlaps(path, &tensors)?;
        Ok(Self { version, metadata, tensors })
    }
}

fn version(cursor: &mut Cursor<'_>) -> Result<u32> {
    let magic = cursor.u32("the magic")?.to_le_bytes();
    if magic != MAGIC {
        return Err(cursor.error(
            "the magic",
            0,
            "\"GGUF\"",
            format!("{:?}", magic.escape_ascii().to_string()),
        ));
    }
    let expected = "2 or 3";
    match cursor.u32("the version")? {
        version @ 2..=3 => Ok(version),
        1 => Err(cursor.error(
            "the version",
            4,
            expected,
            "1, from before August 2023: convert the model anew",
        )),
        other if matches!(other.swap_bytes(), 1..=3) => {
            Err(cursor.error("the version", 4, expected, "a file for big-endian machines"))
        }
        other => Err(cursor.error("the version", 4, expected, other.to_string())),
    }
}

fn alignment(metadata: &Metadata) -> Result<usize> {
    match metadata.count(ALIGNMENT_KEY)? {
        None => Ok(ALIGNMENT),
        Some(alignment) if alignment.is_power_of_two() && alignment <= 1 << 30 => Ok(alignment),
        Some(other) => Err(metadata.error(ALIGNMENT_KEY, "a power of two", other.to_string())),
    }
}

/// A tensor as its entry describes it.
struct Unplaced {
    name: String,
    tensor_type: TensorType,
    dims: Vec<usize>,
    /// Where the entry has what the errors are about.
    entry: usize,
    offset: u64,
}

impl Unplaced {
    fn read(cursor: &mut Cursor<'_>, metadata: &Metadata) -> Result<Self> {
        let name = cursor.name("the name of a tensor")?.to_owned();
        let what = format!("tensor {}", quoted(&name));
        let entry = cursor.at();
        let rank = cursor.u32(&what)?;
        if !(1..=DIMENSIONS).contains(&rank) {
            return Err(cursor.error(&what, entry, "1 to 4 dimensions", rank.to_string()));
        }
        let mut dims = Vec::new();
        for _ in 0..rank {
            let offset = cursor.at();
            let dim = cursor.u64(&what)?;
            let checked = usize::try_from(dim).ok().filter(|dim| (1..=i64::MAX as usize).contains(dim));
            dims.push(
                checked.ok_or_else(|| {
                    cursor.error(&what, offset, "a dimension of at least 1", dim.to_string())
                })?,
            );
        }
        dims.reverse();
        let type_offset = cursor.at();
        let tensor_type = tensor_type(cursor.u32(&what)?, metadata)
            .map_err(|got| cursor.error(&what, type_offset, "a type that is read", got))?;
        Ok(Self { name, tensor_type, dims, entry: type_offset, offset: cursor.u64(&what)? })
    }

    /// Checks that the tensor lies in the file.
    fn place(self, path: &Path, start: usize, alignment: usize, file: usize) -> Result<TensorInfo> {
        let Self { name, tensor_type, dims, entry, offset } = self;
        let error = |expected: &str, got: String| {
            Error::gguf(path, &format!("tensor {}", quoted(&name)), entry, expected, got)
        };
        let rows = dims[..dims.len() - 1].iter().try_fold(1_usize, |rows, &dim| rows.checked_mul(dim));
        let size =
            rows.and_then(|rows| tensor_type.size_bytes(rows, dims[dims.len() - 1])).ok_or_else(|| {
                let (weights, type_name) = (tensor_type.block().0, tensor_type.name());
                error(
                    &format!("whole blocks of {weights} weights for {type_name}"),
                    format!("shape {dims:?}"),
                )
            })?;
        if !offset.is_multiple_of(alignment as u64) {
            return Err(error(&format!("an offset that is a multiple of {alignment}"), offset.to_string()));
        }
        let first = usize::try_from(offset).ok().and_then(|offset| start.checked_add(offset));
        let end = first.and_then(|first| first.checked_add(size));
        match (first, end) {
            (Some(first), Some(end)) if end <= file => {
                Ok(TensorInfo { name, tensor_type, dims, part: 0, bytes: first..end })
            }
            _ => {
                let left = file.saturating_sub(start) as u64;
                let expected = format!("{size} bytes of data at offset {offset}");
                Err(error(&expected, format!("{left} bytes of data in all")))
            }
        }
    }
}

/// The type of a number, or what to say of it.
fn tensor_type(number: u32, metadata: &Metadata) -> Result<TensorType, String> {
    const AGAIN: &str = "which is laid out for one machine: convert the Hugging Face checkpoint anew";
    match TensorType::of(number) {
        Number::Known(known) => Ok(known),
        Number::Unsupported("TL1") => Err(format!("type 38, TL1, {AGAIN}")),
        Number::Unsupported(name) => Err(format!("type {number}, {name}")),
        Number::Tl2OrMxfp4 => {
            // 38 and 39 are also the file types of TL1 and TL2; 38 is MXFP4's as well, in files of other models.
            let architecture = metadata.text("general.architecture").ok().flatten().unwrap_or_default();
            let is_bitnet =
                architecture.starts_with("bitnet") || metadata.count(FILE_TYPE).ok().flatten() == Some(39);
            Err(if is_bitnet {
                format!("type 39, in a BitNet model TL2, {AGAIN}")
            } else {
                "type 39, MXFP4 in llama.cpp's numbers".to_owned()
            })
        }
        Number::Unknown => Err(format!("type {number}, which no version of ggml has")),
    }
}

/// Bytes that two tensors share would let a small file claim any amount of memory.
fn refuse_overlaps(path: &Path, tensors: &[TensorInfo]) -> Result<()> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_unstable_by_key(|tensor| tensor.bytes.start);
    for pair in order.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        if second.bytes.start < first.bytes.end {
            let what = format!("tensor {}", quoted(&second.name));
            let expected = format!("bytes behind {}, which ends at {}", quoted(&first.name), first.bytes.end);
            let got = format!("bytes from {}", second.bytes.start);
            return Err(Error::gguf(path, &what, second.bytes.start, &expected, got));
        }
    }
    Ok(())
}
