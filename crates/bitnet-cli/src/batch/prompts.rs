//! Prompts of a file, one after another.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use bitnet_inference::Error;
use serde_json::{Map, Value};

use super::format::{Format, unescape};
use super::row::Row;
use crate::failure::Failure;

/// A row of the file.
#[derive(Debug)]
pub(super) struct Prompt {
    /// The prompt, or why there is none.
    pub(super) text: Result<String, String>,
    /// What else the row has, under names that results leave free.
    pub(super) fields: Map<String, Value>,
    /// Bytes of the file up to its end.
    pub(super) end: u64,
}

/// The prompts of a file, read as they are asked for.
pub(super) struct Prompts {
    path: PathBuf,
    field: String,
    source: Source,
    bytes: u64,
}

enum Source {
    Lines { reader: BufReader<File>, format: Format, number: usize, end: u64 },
    Table { reader: csv::Reader<File>, names: Vec<String>, column: usize },
}

impl Prompts {
    /// Opens a file of prompts, which objects and tables have in `field`.
    ///
    /// Errors: a name that says no format, a file that cannot be read, a table without that column.
    pub(super) fn open(path: &Path, field: &str) -> Result<Self, Failure> {
        let format = Format::of(path)?;
        let io = |error| Error::io(path, error);
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(io(io::ErrorKind::IsADirectory.into()).into());
        }
        let source = match format {
            Format::Csv => Source::table(file, path, field)?,
            Format::Txt | Format::Jsonl => {
                Source::Lines { reader: BufReader::new(file), format, number: 0, end: 0 }
            }
        };
        Ok(Self { path: path.to_owned(), field: field.to_owned(), source, bytes: metadata.len() })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its size.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next row, or an error of the file.
    fn read(&mut self) -> io::Result<Option<Prompt>> {
        match &mut self.source {
            Source::Lines { reader, format, number, end } => {
                while let Some(line) = next_line(reader, end)? {
                    *number += 1;
                    // The last line of a JSONL file is often empty.
                    if *format == Format::Jsonl && line.trim_ascii().is_empty() {
                        continue;
                    }
                    let at = |reason: String| format!("line {number}: {reason}");
                    let read = match format {
                        Format::Jsonl => object(&line, &self.field).map_err(at),
                        _ => text(line).map(|line| (unescape(&line), Map::new())).map_err(at),
                    };
                    return Ok(Some(Prompt::new(read, *end)));
                }
                Ok(None)
            }
            Source::Table { reader, names, column } => {
                let mut record = csv::ByteRecord::new();
                let is_there = match reader.read_byte_record(&mut record) {
                    Ok(is_there) => is_there,
                    Err(error) if error.is_io_error() => return Err(error.into()),
                    // Too many cells, or too few: the next row is another one.
                    Err(error) => {
                        let end = reader.position().byte();
                        return Ok(Some(Prompt::new(Err(error.to_string()), end)));
                    }
                };
                let line = record.position().map_or(0, csv::Position::line);
                let read = cells(&record, names, *column).map_err(|reason| format!("line {line}: {reason}"));
                Ok(is_there.then(|| Prompt::new(read, reader.position().byte())))
            }
        }
    }
}

impl Iterator for Prompts {
    type Item = Result<Prompt, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().map_err(|error| Error::io(&self.path, error)).transpose()
    }
}

impl Prompt {
    fn new(read: Result<(String, Map<String, Value>), String>, end: u64) -> Self {
        let (text, mut fields) = match read {
            Ok((text, fields)) => (Ok(text), fields),
            Err(reason) => (Err(reason), Map::new()),
        };
        fields.retain(|name, _| !Row::NAMES.contains(&name.as_str()));
        Self { text, fields, end }
    }
}

impl Source {
    fn table(file: File, path: &Path, field: &str) -> Result<Self, Failure> {
        let refuse = |reason: String| Failure::Other(format!("{}: {reason}", path.display()));
        let mut reader = csv::Reader::from_reader(file);
        let names = reader.headers().map_err(|error| refuse(error.to_string()))?;
        let names: Vec<String> = names.iter().map(str::to_owned).collect();
        let column = names.iter().position(|name| name == field);
        let column = column.ok_or_else(|| {
            refuse(format!("has no column {field:?}, only {}; --field names another", names.join(", ")))
        })?;
        Ok(Self::Table { reader, names, column })
    }
}

/// The next line without its end; adds its bytes to `end`.
fn next_line(reader: &mut impl BufRead, end: &mut u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let bytes = reader.read_until(b'\n', &mut line)?;
    if bytes == 0 {
        return Ok(None);
    }
    let is_first = *end == 0;
    *end += bytes as u64;
    for tail in [b'\n', b'\r'] {
        if line.last() == Some(&tail) {
            line.pop();
        }
    }
    let byte_order_mark = "\u{feff}".as_bytes();
    if is_first && line.starts_with(byte_order_mark) {
        line.drain(..byte_order_mark.len());
    }
    Ok(Some(line))
}

fn text(line: Vec<u8>) -> Result<String, String> {
    String::from_utf8(line).map_err(|error| format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

/// A string, or an object that has one in `field`.
fn object(line: &[u8], field: &str) -> Result<(String, Map<String, Value>), String> {
    match serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))? {
        Value::String(text) => Ok((text, Map::new())),
        Value::Object(mut fields) => match fields.remove(field) {
            Some(Value::String(text)) => Ok((text, fields)),
            Some(_) => Err(format!("{field:?} is no text")),
            None => Err(format!("has no {field:?}; --field names another")),
        },
        _ => Err("neither a text nor an object".to_owned()),
    }
}

/// The prompt of a row, and its other cells.
fn cells(
    record: &csv::ByteRecord,
    names: &[String],
    column: usize,
) -> Result<(String, Map<String, Value>), String> {
    let record = csv::StringRecord::from_byte_record(record.clone()).map_err(|error| error.to_string())?;
    let others = names.iter().zip(&record).enumerate().filter(|(index, _)| *index != column);
    let fields = others.map(|(_, (name, cell))| (name.clone(), Value::String(cell.to_owned()))).collect();
    Ok((record.get(column).unwrap_or_default().to_owned(), fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts and fields of a file, and what is wrong with its rows.
    fn read(name: &str, content: &[u8], field: &str) -> Vec<(Result<String, String>, String)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let prompts: Vec<Prompt> = Prompts::open(&path, field).unwrap().map(Result::unwrap).collect();
        assert_eq!(prompts.last().unwrap().end, content.len() as u64);
        let fields = |fields| Value::Object(fields).to_string();
        prompts.into_iter().map(|prompt| (prompt.text, fields(prompt.fields))).collect()
    }

    fn texts(rows: &[(Result<String, String>, String)]) -> Vec<&str> {
        rows.iter().map(|(text, _)| text.as_deref().unwrap_or_else(|reason| reason)).collect()
    }

    #[test]
    fn a_line_of_text_is_a_prompt() {
        let rows = read("a.txt", "\u{feff}one\\ntwo\r\n\nlast".as_bytes(), "prompt");
        assert_eq!(texts(&rows), ["one\ntwo", "", "last"]);
        assert_eq!(
            texts(&read("a.txt", b"x\n\xff\ny\n", "prompt")),
            ["x", "line 2: not UTF-8 at byte 0", "y"]
        );
    }

    #[test]
    fn objects_have_their_prompt_in_a_field() {
        let content = br#"{"q": "one", "id": 7, "text": "taken"}
"two"

{"id": 8}
{"q": 1}
[1]
{"q":
"#;
        let rows = read("a.jsonl", content, "q");
        assert_eq!(
            texts(&rows),
            [
                "one",
                "two",
                "line 4: has no \"q\"; --field names another",
                "line 5: \"q\" is no text",
                "line 6: neither a text nor an object",
                "line 7: not JSON: EOF while parsing a value at line 1 column 5"
            ]
        );
        assert_eq!(rows[0].1, r#"{"id":7}"#, "names of results are theirs");
    }

    #[test]
    fn tables_have_their_prompt_in_a_column() {
        let rows = read("a.csv", b"id,q\n1,\"a \"\"b\"\",\nc\"\n2\n3,d\n4,\xff\n", "q");
        let texts = texts(&rows);
        assert_eq!((texts[0], texts[2]), ("a \"b\",\nc", "d"));
        assert!(texts[1].contains("found record with 1 field"), "{texts:?}");
        assert!(texts[3].contains("invalid UTF-8"), "{texts:?}");
        assert_eq!(rows[0].1, r#"{"id":"1"}"#);
    }

    #[test]
    fn a_table_without_the_column_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "id,q\n").unwrap();
        let refused = Prompts::open(&path, "prompt").map(drop).unwrap_err().to_string();
        assert!(
            refused.ends_with("has no column \"prompt\", only id, q; --field names another"),
            "{refused}"
        );
    }
}
