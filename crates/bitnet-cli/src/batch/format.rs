//! Formats of prompts and results.

use std::borrow::Cow;
use std::path::Path;

use crate::failure::Failure;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A text a line.
    Txt,
    /// A JSON value a line.
    Jsonl,
    /// A table with a header.
    Csv,
}

impl Format {
    /// By the ending of the name.
    pub(super) fn of(path: &Path) -> Result<Self, Failure> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "txt" => Ok(Self::Txt),
            "jsonl" => Ok(Self::Jsonl),
            "csv" => Ok(Self::Csv),
            _ => Err(Failure::Usage(format!(
                "{}: the name must end in .txt, .jsonl or .csv, which says the format",
                path.display()
            ))),
        }
    }
}

/// A text as one line: `\n` for a newline, `\r` for a carriage return, `\\` for a backslash.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '\n', '\r']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r"))
}

/// The text of a line. A backslash in front of anything else stands for itself.
pub(super) fn unescape(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let (character, len) = match rest.as_bytes().get(at + 1) {
            Some(b'n') => ('\n', 2),
            Some(b'r') => ('\r', 2),
            Some(b'\\') => ('\\', 2),
            _ => ('\\', 1),
        };
        text.push(character);
        rest = &rest[at + len..];
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_its_text_again() {
        for text in ["", "plain", "two\nlines\r\n", "back\\slash", "\\n is no newline", "\\", "日本\n語\\"]
        {
            let line = escape(text);
            assert!(!line.contains(['\n', '\r']), "{line:?}");
            assert_eq!(unescape(&line), text);
        }
        assert_eq!(unescape(r"C:\temp \d \"), r"C:\temp \d \", "what needs no escape needs none");
    }

    #[test]
    fn the_ending_says_the_format() {
        assert_eq!(Format::of(Path::new("a.b.JSONL")).unwrap(), Format::Jsonl);
        for name in ["prompts", "prompts.json", "txt", "a.csv/b"] {
            assert!(Format::of(Path::new(name)).is_err(), "{name}");
        }
    }
}
