//! Numbers of bytes as people write them.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// A number of bytes: `4000000000`, `512MB`, `1.5 GiB`.
///
/// Units are `B`, the decimal `kB`, `MB`, `GB`, `TB` and the binary `KiB`, `MiB`, `GiB`, `TiB`, in any case. Fractions are
/// rounded to whole bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl ByteSize {
    /// The number.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = Error;

    /// Errors: [`Error::ByteSize`].
    fn from_str(text: &str) -> Result<Self> {
        parse(text).map(Self).ok_or_else(|| Error::ByteSize(text.to_owned()))
    }
}

/// In the largest binary unit that it fills, with up to three decimals.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |unit: &&(&str, u64)| unit.0.ends_with("iB") && self.0 >= unit.1;
        let Some((name, size)) = UNITS.iter().rev().find(fits) else {
            return write!(f, "{} bytes", self.0);
        };
        let number = format!("{:.3}", self.0 as f64 / *size as f64);
        write!(f, "{} {name}", number.trim_end_matches('0').trim_end_matches('.'))
    }
}

fn parse(text: &str) -> Option<u64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text[number.len()..]))?.1;
    let number = number.trim();
    if number.starts_with(['+', '-']) {
        return None;
    }
    match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(unit),
        // Only digits and a point get here: letters are the unit's.
        Err(_) if number.contains('.') => {
            let bytes = (number.parse::<f64>().ok()? * unit as f64).round();
            (bytes < u64::MAX as f64).then_some(bytes as u64)
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("123", 123),
            ("123B", 123),
            ("512MB", 512_000_000),
            ("5gb", 5_000_000_000),
            ("64 kB", 64_000),
            ("2GiB", 2 << 30),
            ("1.5 GiB", 3 << 29),
            (".5KiB", 512),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "GB",
            "-1",
            "+1",
            "-1.5GB",
            "1e9",
            "inf",
            "nan",
            ".",
            "1.2.3",
            "5XB",
            "5GiBs",
            "2 G iB",
            "1_000",
            "18446744073709551616",
            "18446744073709551615kB",
            "99999999999999.5TB",
        ] {
            assert_eq!(text.parse::<ByteSize>(), Err(Error::ByteSize(text.to_owned())));
        }
    }

    #[test]
    fn sizes_are_shown_as_people_read_them() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1_300_000, "1.24 MiB"),
            (3 << 29, "1.5 GiB"),
            (10 << 40, "10 TiB"),
            (10 << 50, "10240 TiB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(bytes in 0..u64::MAX / 2, shift in 0..63) {
            let size = ByteSize(bytes >> shift);
            let shown = size.to_string();
            let again: ByteSize = shown.trim_end_matches(" bytes").parse().unwrap();
            // Three decimals of at least 1, and whole bytes.
            prop_assert!(again.0.abs_diff(size.0) as f64 <= size.0 as f64 * 5e-4 + 0.5);
        }
    }
}
