//! Printing: results to standard output, everything else to standard error.

use std::io::{self, Write};

use bitnet_inference::speculation::Guesses;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;

/// Text as it is, at once.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Rows of a name and a value, aligned.
pub(crate) fn table(rows: &[(&str, String)]) -> Result<(), Failure> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect();
    text(&lines.concat())
}

/// One JSON object, in one line.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(value).map_err(|error| Failure::Output(error.into()))?;
    text(&(json + "\n"))
}

/// A line for the reader to standard error: one, and harmless to a terminal, whatever it quotes.
pub(crate) fn note(line: &str) {
    let words = line.split(char::is_control).map(str::trim).filter(|part| !part.is_empty());
    // There is nowhere to say that standard error is closed.
    drop(writeln!(io::stderr(), "{}", words.collect::<Vec<_>>().join(" ")));
}

/// A bar on standard error, and only where that is a terminal. Its length may be set when it is known.
pub(crate) fn progress_bar(len: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(len);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// "3 of 8 guesses right; ", or nothing where nothing was guessed.
pub(crate) fn guesses(guesses: Guesses) -> String {
    match guesses {
        Guesses { proposed: 0, .. } => String::new(),
        Guesses { proposed, accepted } => format!("{accepted} of {proposed} guesses right; "),
    }
}

/// A number in groups of three digits.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let group_ends = |&at: &usize| at > 0 && (digits.len() - at).is_multiple_of(3);
    let mut text = digits.clone();
    for at in (0..digits.len()).rev().filter(group_ends) {
        text.insert(at, ',');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_threes() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (2_412_820_480, "2,412,820,480")] {
            assert_eq!(grouped(number), text);
        }
    }
}
