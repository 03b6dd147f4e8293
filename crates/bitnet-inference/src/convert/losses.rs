//! What a conversion does not keep.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{Error, Result};

/// Facts that get lost, each with the first tensor it is true of and the number of them.
#[derive(Debug, Default)]
pub(super) struct Losses(BTreeMap<&'static str, (String, usize)>);

impl Losses {
    pub(super) fn add(&mut self, tensor: &str, fact: &'static str) {
        self.0.entry(fact).or_insert_with(|| (tensor.to_owned(), 0)).1 += 1;
    }

    /// All of it, a line each, where that is allowed.
    ///
    /// Errors: [`Error::Lossy`] where it is not.
    pub(super) fn accept(self, source: &Path, is_allowed: bool) -> Result<Vec<String>> {
        let line = |(fact, (tensor, count)): (&str, (String, usize))| match count {
            1 => format!("{tensor}: {fact}"),
            count => format!("{tensor} and {} more: {fact}", count - 1),
        };
        let lines: Vec<String> = self.0.into_iter().map(line).collect();
        if is_allowed || lines.is_empty() {
            return Ok(lines);
        }
        Err(Error::Lossy { path: source.to_owned(), reason: lines.join("; ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_counted_and_need_permission() {
        let losses = || {
            let mut losses = Losses::default();
            losses.add("a", "is rounded");
            losses.add("b", "is rounded");
            losses.add("c", "is gone");
            losses
        };
        let lines = losses().accept(Path::new("x"), true).unwrap();
        assert_eq!(lines, ["c: is gone", "a and 1 more: is rounded"]);
        let error = losses().accept(Path::new("x"), false).unwrap_err().to_string();
        assert_eq!(error, "x: c: is gone; a and 1 more: is rounded; lossy allows that");
        assert!(Losses::default().accept(Path::new("x"), false).unwrap().is_empty());
    }
}
