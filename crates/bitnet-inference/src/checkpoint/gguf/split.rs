//! Files in several parts, as llama.cpp's `gguf-split` names them: `name-00001-of-00003.gguf` and so on.
//!
//! The first part has all keys. Each has `split.count`, `split.no`, from 0, and `split.tensors.count`, of all parts.

use std::path::{Path, PathBuf};

use bitnet_core::Buffer;

use super::header::Header;
use super::metadata::Metadata;
use crate::checkpoint::folder;
use crate::{Error, Result};

pub(super) const COUNT: &str = "split.count";
pub(super) const NUMBER: &str = "split.no";
pub(super) const TENSORS: &str = "split.tensors.count";

/// The name of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartName<'a> {
    stem: &'a str,
    /// From 1.
    number: usize,
    count: usize,
}

impl<'a> PartName<'a> {
    /// What the name of a file says, if it is that of a part.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let number_of = |digits: &str| match digits.len() {
            5 if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
            _ => None,
        };
        let (number, count) = (number_of(number)?, number_of(count)?);
        (1..=count).contains(&number).then_some(Self { stem, number, count })
    }

    /// The names of all parts, in order.
    pub(crate) fn all(self) -> impl Iterator<Item = String> {
        let Self { stem, count, .. } = self;
        (1..=count).map(move |number| format!("{stem}-{number:05}-of-{count:05}.gguf"))
    }
}

/// The GGUF files among names, of files in several parts the first.
pub(crate) fn entries<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Vec<&'n str> {
    let all = names.clone();
    let is_later = |name: &str| {
        PartName::parse(name).is_some_and(|part| {
            part.number > 1
                && part.all().nth(part.number - 2).is_some_and(|before| all.clone().any(|n| n == before))
        })
    };
    let is_gguf = |name: &&str| Path::new(name).extension().is_some_and(|extension| extension == "gguf");
    names.filter(is_gguf).filter(|name| !is_later(name)).collect()
}

/// Where the parts of a model are written: at `path` if it is one, else beside that.
pub(crate) fn part_paths(path: &Path, count: usize) -> Vec<PathBuf> {
    if count == 1 {
        return vec![path.to_owned()];
    }
    let named = |number: usize| {
        let mut name = path.file_stem().unwrap_or_default().to_owned();
        name.push(format!("-{number:05}-of-{count:05}.gguf"));
        path.with_file_name(name)
    };
    (1..=count).map(named).collect()
}

/// One of the files that a model is in.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) bytes: Buffer,
}

/// The parts behind the first, with their headers.
///
/// Errors: [`Error::Checkpoint`] for one that is missing, [`Error::Gguf`] for one that does not fit.
pub(super) fn others(path: &Path, first: &Header) -> Result<Vec<(Part, Header)>> {
    let Some(count) = first.metadata.count(COUNT)?.filter(|count| *count > 1) else { return Ok(Vec::new()) };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let part = PartName::parse(name).filter(|part| part.count == count).ok_or_else(|| {
        let expected = format!("a file whose name ends in -00001-of-{count:05}.gguf");
        first.metadata.error(COUNT, &expected, name)
    })?;
    let number = number(&first.metadata)?;
    if number != 0 || part.number != 1 {
        let expected = format!("the first of {count} parts, {}", part.all().next().unwrap_or_default());
        return Err(first.metadata.error(NUMBER, &expected, format!("part {}", number + 1)));
    }
    let mut others = Vec::new();
    for (index, other) in part.all().enumerate().skip(1) {
        others.push(read(path.with_file_name(other), path, index, count)?);
    }
    let tensors = first.tensors.len() + others.iter().map(|(_, header)| header.tensors.len()).sum::<usize>();
    match first.metadata.count(TENSORS)? {
        Some(said) if said != tensors => {
            let expected = format!("{tensors}, as many as the parts have");
            Err(first.metadata.error(TENSORS, &expected, said.to_string()))
        }
        _ => Ok(others),
    }
}

/// The part `index`, from 0, of a model whose first part is `first`.
fn read(path: PathBuf, first: &Path, index: usize, count: usize) -> Result<(Part, Header)> {
    let missing = || Error::checkpoint(&path, format!("is missing; {} is in {count} parts", first.display()));
    let bytes = folder::map_file(&path)?.ok_or_else(missing)?;
    let header = Header::read(&path, &bytes)?;
    let (theirs, number) = (header.metadata.count(COUNT)?, number(&header.metadata)?);
    if theirs != Some(count) {
        let got = theirs.map_or_else(|| "nothing".to_owned(), |theirs| theirs.to_string());
        return Err(header.metadata.error(COUNT, &format!("{count}, as in {}", first.display()), got));
    }
    if number != index {
        return Err(header.metadata.error(NUMBER, &index.to_string(), number.to_string()));
    }
    Ok((Part { path, bytes }, header))
}

fn number(metadata: &Metadata) -> Result<usize> {
    metadata.count(NUMBER)?.ok_or_else(|| metadata.error(NUMBER, "the number of this part", "nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_those_of_gguf_split() {
        let part = PartName::parse("a-b-00002-of-00003.gguf").unwrap();
        assert_eq!((part.stem, part.number, part.count), ("a-b", 2, 3));
        let all = ["a-b-00001-of-00003.gguf", "a-b-00002-of-00003.gguf", "a-b-00003-of-00003.gguf"];
        assert!(part.all().eq(all));
        let paths = part_paths(Path::new("x/a-b.gguf"), 3);
        assert!(paths.iter().map(|path| path.file_name().unwrap()).eq(all));
        assert_eq!(part_paths(Path::new("x/a-b.gguf"), 1), [Path::new("x/a-b.gguf")]);
        for name in [
            "a.gguf",
            "a-1-of-3.gguf",
            "a-00000-of-00003.gguf",
            "a-00004-of-00003.gguf",
            "a-00001-of-+0003.gguf",
            "a-00001-of-00003.bin",
            "-of-.gguf",
        ] {
            assert_eq!(PartName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn of_parts_the_first_stands_for_all() {
        let names = [
            "README.md",
            "a-00001-of-00002.gguf",
            "a-00002-of-00002.gguf",
            "b-00002-of-00002.gguf",
            "c.gguf",
        ];
        let found = entries(names.into_iter());
        assert_eq!(found, ["a-00001-of-00002.gguf", "b-00002-of-00002.gguf", "c.gguf"]);
    }
}
