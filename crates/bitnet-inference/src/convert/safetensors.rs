//! Safetensors files: one, or shards of a size with an index.
//!
//! A file is the length of its header in eight bytes, the header in JSON, padded with spaces to eight bytes, and the
//! tensors. Wide elements come first, so that all are aligned. Source: the format's page, huggingface/safetensors.

use std::borrow::Cow;
use std::path::Path;

use bitnet_core::DType;
use serde_json::{Map, Value, json};

use crate::checkpoint::{INDEX, SINGLE};
use crate::{Error, Result, atomic_file};

/// A tensor to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub dims: Vec<usize>,
}

impl Spec {
    pub(super) fn size_bytes(&self) -> usize {
        self.dims.iter().product::<usize>() * self.dtype.size_bytes()
    }

    fn type_name(&self) -> &'static str {
        match self.dtype {
            DType::F64 => "F64",
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
            DType::I8 => "I8",
            // Packed codes are stored as the bytes that hold them.
            DType::U8 | DType::Ternary => "U8",
            DType::I32 => "I32",
            DType::I64 => "I64",
            DType::Bool => "BOOL",
        }
    }
}

/// Writes `tensors` into `folder`, at most `shard_bytes` of them in a file unless one is larger; `data(i)` gives the
/// bytes of the tensor `i`. Returns the number of files.
pub(super) fn write<'d>(
    folder: &Path,
    tensors: &[Spec],
    shard_bytes: usize,
    mut data: impl FnMut(usize) -> Result<Cow<'d, [u8]>>,
) -> Result<usize> {
    let shards = shards(tensors, shard_bytes);
    if let [all] = &shards[..] {
        write_shard(&folder.join(SINGLE), tensors, all, data)?;
        return Ok(1);
    }
    let mut places = Map::new();
    for (index, shard) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len());
        write_shard(&folder.join(&file), tensors, shard, &mut data)?;
        places.extend(shard.iter().map(|&at| (tensors[at].name.clone(), Value::from(file.as_str()))));
    }
    let total: usize = tensors.iter().map(Spec::size_bytes).sum();
    write_json(&folder.join(INDEX), &json!({"metadata": {"total_size": total}, "weight_map": places}))?;
    Ok(shards.len())
}

/// Writes `tensors` into one file, whole or not at all; `data(i)` gives the bytes of the tensor `i`.
///
/// Errors: [`Error::Io`], and what `data` says.
pub fn write_file<'d>(
    path: &Path,
    tensors: &[Spec],
    data: impl FnMut(usize) -> Result<Cow<'d, [u8]>>,
) -> Result<()> {
    write_shard(path, tensors, &wide_first(tensors, (0..tensors.len()).collect()), data)
}

/// Writes a JSON file.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    write_bytes(path, format!("{value:#}\n").as_bytes())
}

/// Writes a file.
pub(super) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    atomic_file::write(path, |file| file.write_all(bytes).map_err(|source| Error::io(path, source)))
}

/// The tensors of each file.
fn shards(tensors: &[Spec], shard_bytes: usize) -> Vec<Vec<usize>> {
    let mut shards = vec![Vec::new()];
    let mut size = 0;
    for (index, tensor) in tensors.iter().enumerate() {
        if size > 0 && size + tensor.size_bytes() > shard_bytes {
            shards.push(Vec::new());
            size = 0;
        }
        size += tensor.size_bytes();
        shards.last_mut().expect("there is a first shard").push(index);
    }
    shards.into_iter().map(|shard| wide_first(tensors, shard)).collect()
}

/// So that all are aligned.
fn wide_first(tensors: &[Spec], mut shard: Vec<usize>) -> Vec<usize> {
    shard.sort_by_key(|&index| std::cmp::Reverse(tensors[index].dtype.size_bytes()));
    shard
}

fn write_shard<'d>(
    path: &Path,
    tensors: &[Spec],
    shard: &[usize],
    mut data: impl FnMut(usize) -> Result<Cow<'d, [u8]>>,
) -> Result<()> {
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut offset = 0;
    for &index in shard {
        let tensor = &tensors[index];
        let end = offset + tensor.size_bytes();
        let info = json!({"dtype": tensor.type_name(), "shape": tensor.dims, "data_offsets": [offset, end]});
        header.insert(tensor.name.clone(), info);
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    atomic_file::write(path, |file| {
        let io = |source| Error::io(path, source);
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
        file.write_all(&header).map_err(io)?;
        for &index in shard {
            let bytes = data(index)?;
            let tensor = &tensors[index];
            assert_eq!(
                bytes.len(),
                tensor.size_bytes(),
                "the bytes of {} follow from its shape",
                tensor.name
            );
            file.write_all(&bytes).map_err(io)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checkpoint;

    fn spec(name: &str, dtype: DType, len: usize) -> Spec {
        Spec { name: name.to_owned(), dtype, dims: vec![len] }
    }

    /// Three tensors of 6, 8 and 16 bytes whose bytes are all their index.
    fn write_three(shard_bytes: usize) -> (tempfile::TempDir, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let tensors = [spec("a", DType::U8, 6), spec("b", DType::F32, 2), spec("c", DType::F64, 2)];
        let bytes: Vec<Vec<u8>> = (0..3).map(|i| vec![i as u8; tensors[i].size_bytes()]).collect();
        let files = write(folder.path(), &tensors, shard_bytes, |i| Ok(Cow::Borrowed(&bytes[i]))).unwrap();
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        for (index, tensor) in tensors.iter().enumerate() {
            let stored = checkpoint.tensor(&tensor.name).unwrap().unwrap();
            assert_eq!((stored.dims(), &stored.data()[..]), (tensor.dims.clone(), &bytes[index][..]));
        }
        let places: Vec<String> = tensors
            .iter()
            .map(|t| checkpoint.tensor_path(&t.name).file_name().unwrap().to_string_lossy().into())
            .collect();
        assert_eq!(places.iter().collect::<std::collections::BTreeSet<_>>().len(), files);
        (folder, places)
    }

    #[test]
    fn a_small_model_is_one_file() {
        let (folder, places) = write_three(30);
        assert_eq!(places, ["model.safetensors"; 3]);
        assert!(!folder.path().join(INDEX).exists());
    }

    #[test]
    fn shards_stay_below_their_size_unless_one_tensor_is_larger() {
        let names = [1, 2, 3].map(|i| format!("model-0000{i}-of-00003.safetensors"));
        assert_eq!(write_three(10).1, names);
        assert_eq!(write_three(1).1, names);
        assert_eq!(write_three(14).1, ["1", "1", "2"].map(|i| format!("model-0000{i}-of-00002.safetensors")));
    }

    #[test]
    fn data_that_fails_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let failed = write(folder.path(), &[spec("a", DType::U8, 1)], 10, |_| Err(Error::EmptyPrompt));
        assert!(matches!(failed, Err(Error::EmptyPrompt)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
