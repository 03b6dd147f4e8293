//! Which files of a model are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::id::is_path;
use crate::checkpoint::gguf::{PartName, entries};
use crate::{Error, Result};

/// Without these a model cannot run.
pub(super) const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
const OPTIONAL: [&str; 4] =
    ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];
/// All weights in one file.
pub(super) const SINGLE: &str = "model.safetensors";
/// Which tensor is in which of several files.
pub(super) const INDEX: &str = "model.safetensors.index.json";

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Those of `listed` that are needed, weights last; of a model in shards the index stands for the shards. The GGUF files
/// in the place of all where `file` names one or there are no others.
pub(super) fn wanted(listed: &BTreeSet<String>, file: Option<&str>) -> Result<Vec<String>, String> {
    let weights = [SINGLE, INDEX].into_iter().find(|name| listed.contains(*name));
    let (None, Some(weights)) = (file, weights) else {
        return if file.is_some() || has_gguf(listed) { gguf(listed, file) } else { Err(no_weights(listed)) };
    };
    if let Some(absent) = REQUIRED.iter().find(|name| !listed.contains(**name)) {
        return Err(format!("has no {absent}"));
    }
    let optional = OPTIONAL.into_iter().filter(|name| listed.contains(*name));
    Ok(REQUIRED.into_iter().chain(optional).chain([weights]).map(str::to_owned).collect())
}

/// Whether there is a GGUF file.
pub(super) fn has_gguf(listed: &BTreeSet<String>) -> bool {
    !entries(listed.iter().map(String::as_str)).is_empty()
}

/// The one GGUF file of `listed`, or the one with `file` in its name, and the further parts of it.
pub(super) fn gguf(listed: &BTreeSet<String>, file: Option<&str>) -> Result<Vec<String>, String> {
    let all = entries(listed.iter().map(String::as_str));
    let has_file = |name: &&&str| match file {
        None => true,
        Some(file) => name.to_ascii_lowercase().contains(&file.to_ascii_lowercase()),
    };
    let is_exact = |name: &&&str| Some(**name) == file;
    let found: Vec<&str> = match all.iter().find(is_exact) {
        Some(exact) => vec![exact],
        None => all.iter().filter(has_file).copied().collect(),
    };
    let first = match (&found[..], file) {
        ([first], _) => *first,
        ([], Some(file)) if !all.is_empty() => {
            return Err(format!("has no GGUF file with {file:?} in its name, only {}", some_of(&all)));
        }
        ([], _) => return Err("has no GGUF files".to_owned()),
        (several, _) => {
            return Err(format!(
                "has several GGUF files, name one as in owner/name:{}: {}",
                several[0],
                some_of(several)
            ));
        }
    };
    if !is_path(first) {
        return Err(format!("{first:?} is not the name of a GGUF file"));
    }
    let Some(part) = PartName::parse(first) else { return Ok(vec![first.to_owned()]) };
    part.all()
        .map(
            |name| {
                if listed.contains(&name) {
                    Ok(name)
                } else {
                    Err(format!("has no {name}, a part of {first}"))
                }
            },
        )
        .collect()
}

/// The first names of a list.
fn some_of(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

fn no_weights(listed: &BTreeSet<String>) -> String {
    let is_safetensors = |name: &String| Path::new(name).extension().is_some_and(|e| e == "safetensors");
    if listed.iter().any(is_safetensors) {
        format!("has neither {SINGLE} nor {INDEX}")
    } else {
        "has neither safetensors nor GGUF files".to_owned()
    }
}

/// The shards that the index in `folder` names. The index may be hostile.
pub(super) fn shards(folder: &Path) -> Result<BTreeSet<String>> {
    let path = folder.join(INDEX);
    let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
    let index: Index =
        serde_json::from_slice(&bytes).map_err(|error| Error::checkpoint(&path, error.to_string()))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if shards.is_empty() {
        return Err(Error::checkpoint(path, "names no files"));
    }
    match shards.iter().find(|name| !is_shard(name)) {
        Some(name) => Err(Error::checkpoint(path, format!("{name:?} is not the name of a safetensors file"))),
        None => Ok(shards),
    }
}

/// A plain file name that means the same in a URL and on every file system.
fn is_shard(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.len() <= 255
        && name.strip_suffix(".safetensors").is_some_and(|stem| !stem.is_empty())
        && !name.starts_with(['.', '-'])
        && name.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn wanted_files_are_those_a_model_runs_with() {
        let all = listed(&[
            ".gitattributes",
            "README.md",
            "chat_template.jinja",
            "config.json",
            "model.gguf",
            "model.safetensors",
            "original/model.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
        ]);
        let expected = ["config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"];
        assert_eq!(wanted(&all, None).unwrap(), expected);
        let sharded = listed(&["config.json", "tokenizer.json", "model-1.safetensors", INDEX]);
        assert_eq!(wanted(&sharded, None).unwrap(), ["config.json", "tokenizer.json", INDEX]);
        let both = listed(&["config.json", "tokenizer.json", SINGLE, INDEX]);
        assert_eq!(wanted(&both, None).unwrap(), ["config.json", "tokenizer.json", SINGLE]);
    }

    #[test]
    fn what_is_lacking_is_named() {
        let reason = |names: &[&str]| wanted(&listed(names), None).unwrap_err();
        assert_eq!(reason(&["config.json"]), "has neither safetensors nor GGUF files");
        let adapter = reason(&["adapter_model.safetensors"]);
        assert_eq!(adapter, "has neither model.safetensors nor model.safetensors.index.json");
        assert_eq!(reason(&["config.json", SINGLE]), "has no tokenizer.json");
    }

    #[test]
    fn a_gguf_file_is_the_only_one_or_the_one_that_is_named() {
        let one = listed(&["README.md", "config.json", "ggml-model-i2_s.gguf"]);
        assert_eq!(wanted(&one, None).unwrap(), ["ggml-model-i2_s.gguf"]);
        let parts = ["x/m-00001-of-00002.gguf", "x/m-00002-of-00002.gguf"];
        let several = listed(&["a-i2_s.gguf", "a-TQ1_0.gguf", "a-TQ2_0.gguf", parts[0], parts[1], SINGLE]);
        let reason = |file: Option<&str>| gguf(&several, file).unwrap_err();
        for (file, expected) in
            [("i2_s", "a-i2_s.gguf"), ("tq1_0", "a-TQ1_0.gguf"), ("a-TQ2_0.gguf", "a-TQ2_0.gguf")]
        {
            assert_eq!(wanted(&several, Some(file)).unwrap(), [expected]);
        }
        assert_eq!(wanted(&several, Some("x/m")).unwrap(), parts);
        assert_eq!(
            reason(None),
            "has several GGUF files, name one as in owner/name:a-TQ1_0.gguf: \
             a-TQ1_0.gguf, a-TQ2_0.gguf, a-i2_s.gguf, x/m-00001-of-00002.gguf"
        );
        assert!(
            reason(Some("tq")).starts_with("has several GGUF files, name one as in owner/name:a-TQ1_0.gguf")
        );
        assert!(
            reason(Some("q4")).starts_with("has no GGUF file with \"q4\" in its name, only a-TQ1_0.gguf")
        );
        let torn = gguf(&listed(&parts[..1]), None).unwrap_err();
        assert_eq!(torn, "has no x/m-00002-of-00002.gguf, a part of x/m-00001-of-00002.gguf");
        for hostile in ["../x.gguf", "/x.gguf", "a/../x.gguf", "a b.gguf", "x?.gguf", "-x.gguf"] {
            let said = gguf(&listed(&[hostile]), None).unwrap_err();
            assert!(said.ends_with("is not the name of a GGUF file"), "{said}");
        }
    }

    #[test]
    fn shard_names_are_plain() {
        assert!(is_shard("model-00001-of-00002.safetensors"));
        let hostile = [
            "",
            ".safetensors",
            "x.bin",
            "../x.safetensors",
            "/x.safetensors",
            "a/x.safetensors",
            "a\\x.safetensors",
            "C:x.safetensors",
            "..safetensors",
            "x.safetensors\0",
            "x y.safetensors",
            "x?.safetensors",
            "-x.safetensors",
            "x%2f.safetensors",
        ];
        for name in hostile {
            assert!(!is_shard(name), "{name:?}");
        }
    }
}
