//! The keys and values in front of the tensors. Texts and arrays stay where they are mapped.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bitnet_core::Buffer;

use super::cursor::{Cursor, quoted};
use crate::{Error, Result};

/// The keys of a file and where their values are.
#[derive(Debug)]
pub(crate) struct Metadata {
    path: PathBuf,
    bytes: Buffer,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Type and value, as they are in the file.
    bytes: Range<usize>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(Range<usize>),
    Array(Array),
}

#[derive(Debug)]
struct Array {
    kind: Kind,
    len: usize,
    bytes: Range<usize>,
}

/// Type of a value, by its number in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    /// By their numbers.
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::Text,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// Its number.
    pub(super) fn number(self) -> u32 {
        self as u32
    }

    fn read(cursor: &mut Cursor<'_>, what: &str) -> Result<Self> {
        let offset = cursor.at();
        let number = cursor.u32(what)?;
        Self::ALL
            .get(number as usize)
            .copied()
            .ok_or_else(|| cursor.error(what, offset, "a value type from 0 to 12", number.to_string()))
    }

    /// Bytes of a value of this type, where all have the same.
    fn size_bytes(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::Array => None,
        }
    }

    /// A value of this type, from bytes of its size.
    fn value(self, bytes: &[u8]) -> Value {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let unsigned = u64::from_le_bytes(wide);
        match self {
            Self::I8 => Value::Signed(i64::from(unsigned as i8)),
            Self::I16 => Value::Signed(i64::from(unsigned as i16)),
            Self::I32 => Value::Signed(i64::from(unsigned as i32)),
            Self::I64 => Value::Signed(unsigned as i64),
            Self::F32 => Value::Float(f64::from(f32::from_bits(unsigned as u32))),
            Self::F64 => Value::Float(f64::from_bits(unsigned)),
            Self::Bool => Value::Bool(unsigned != 0),
            Self::U8 | Self::U16 | Self::U32 | Self::U64 | Self::Text | Self::Array => {
                Value::Unsigned(unsigned)
            }
        }
    }
}

impl Metadata {
    /// Reads `count` keys and their values.
    pub(super) fn read(path: &Path, bytes: &Buffer, cursor: &mut Cursor<'_>, count: u64) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let offset = cursor.at();
            let key = cursor.name("a key")?.to_owned();
            let what = format!("key {}", quoted(&key));
            let start = cursor.at();
            let kind = Kind::read(cursor, &what)?;
            let value = read_value(bytes, cursor, &what, kind)?;
            if entries.insert(key, Entry { bytes: start..cursor.at(), value }).is_some() {
                return Err(cursor.error(&what, offset, "every key once", "it a second time"));
            }
        }
        Ok(Self { path: path.to_owned(), bytes: bytes.clone(), entries })
    }

    /// An error about the value of `key`.
    pub(crate) fn error(&self, key: &str, expected: &str, got: impl Into<String>) -> Error {
        let offset = self.entries.get(key).map_or(0, |entry| entry.bytes.start);
        Error::gguf(&self.path, &format!("key {}", quoted(key)), offset, expected, got)
    }

    /// The keys that begin with `prefix`, each with its type and value as they are in the file.
    pub(crate) fn raw(&self, prefix: &str) -> impl Iterator<Item = (&str, &[u8])> {
        let entries = self.entries.iter().filter(move |(key, _)| key.starts_with(prefix));
        entries.map(|(key, entry)| (key.as_str(), &self.bytes[entry.bytes.clone()]))
    }

    /// A number that counts something.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let count = match *value {
            Value::Unsigned(value) => usize::try_from(value).ok(),
            Value::Signed(value) => usize::try_from(value).ok(),
            _ => None,
        };
        count.map(Some).ok_or_else(|| self.error(key, "a whole number of at least 0", describe(value)))
    }

    /// A token id.
    pub(crate) fn id(&self, key: &str) -> Result<Option<u32>> {
        let Some(id) = self.count(key)? else { return Ok(None) };
        u32::try_from(id).map(Some).map_err(|_| self.error(key, "a token id", id.to_string()))
    }

    /// Any number.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Unsigned(value)) => Ok(Some(*value as f64)),
            Some(Value::Signed(value)) => Ok(Some(*value as f64)),
            Some(Value::Float(value)) => Ok(Some(*value)),
            Some(other) => Err(self.error(key, "a number", describe(other))),
        }
    }

    /// A truth value.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.error(key, "true or false", describe(other))),
        }
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Text(range)) => self.utf8(key, &self.bytes[range.clone()]).map(Some),
            Some(other) => Err(self.error(key, "a text", describe(other))),
        }
    }

    /// A list of texts.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(array) = self.array(key, "a list of texts", |kind| kind == Kind::Text)? else {
            return Ok(None);
        };
        let mut rest = &self.bytes[array.bytes.clone()];
        let mut texts = Vec::with_capacity(array.len);
        // The lengths were checked when the file was opened.
        while let Some((len, text)) = rest.split_first_chunk::<8>() {
            let (text, behind) = text.split_at(u64::from_le_bytes(*len) as usize);
            texts.push(self.utf8(key, text)?);
            rest = behind;
        }
        Ok(Some(texts))
    }

    /// A list of numbers.
    pub(crate) fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let is_number = |kind: Kind| !matches!(kind, Kind::Text | Kind::Array | Kind::Bool);
        let Some(array) = self.array(key, "a list of numbers", is_number)? else { return Ok(None) };
        let size = array.kind.size_bytes().unwrap_or(1) as usize;
        let number = |bytes| match array.kind.value(bytes) {
            Value::Unsigned(value) => value as f64,
            Value::Signed(value) => value as f64,
            Value::Float(value) => value,
            Value::Bool(_) | Value::Text(_) | Value::Array(_) => f64::NAN,
        };
        Ok(Some(self.bytes[array.bytes.clone()].chunks_exact(size).map(number).collect()))
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    fn array(&self, key: &str, expected: &str, accepts: impl Fn(Kind) -> bool) -> Result<Option<&Array>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(array)) if accepts(array.kind) => Ok(Some(array)),
            Some(other) => Err(self.error(key, expected, describe(other))),
        }
    }

    fn utf8<'a>(&self, key: &str, bytes: &'a [u8]) -> Result<&'a str> {
        std::str::from_utf8(bytes).map_err(|_| self.error(key, "text in UTF-8", "other bytes"))
    }
}

fn read_value(bytes: &[u8], cursor: &mut Cursor<'_>, what: &str, kind: Kind) -> Result<Value> {
    match kind {
        Kind::Text => cursor.string(what).map(Value::Text),
        Kind::Array => read_array(cursor, what).map(Value::Array),
        _ => {
            let range = cursor.take(what, kind.size_bytes().unwrap_or(0))?;
            Ok(kind.value(&bytes[range]))
        }
    }
}

fn read_array(cursor: &mut Cursor<'_>, what: &str) -> Result<Array> {
    let offset = cursor.at();
    let kind = Kind::read(cursor, what)?;
    let len = cursor.u64(what)?;
    let start = cursor.at();
    match kind.size_bytes() {
        Some(size) => {
            cursor.take(what, len.saturating_mul(size))?;
        }
        None if kind == Kind::Array => {
            return Err(cursor.error(what, offset, "a list of plain values", "a list of lists"));
        }
        // Ends with the file at the latest: a text has a length of eight bytes.
        None => (0..len).try_for_each(|_| cursor.string(what).map(drop))?,
    }
    Ok(Array { kind, len: len as usize, bytes: start..cursor.at() })
}

fn describe(value: &Value) -> String {
    match value {
        Value::Unsigned(value) => value.to_string(),
        Value::Signed(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Text(_) => "a text".to_owned(),
        Value::Array(array) => format!("a list of {} values", array.len),
    }
}
