//! Which files of a model are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

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

/// Those of `listed` that are needed, weights last; of a model in shards the index stands for the shards.
pub(super) fn wanted(listed: &BTreeSet<String>) -> Result<Vec<&'static str>, String> {
    let weights = [SINGLE, INDEX].into_iter().find(|name| listed.contains(*name));
    let Some(weights) = weights else { return Err(no_weights(listed)) };
    if let Some(absent) = REQUIRED.iter().find(|name| !listed.contains(**name)) {
        return Err(format!("has no {absent}"));
    }
    let optional = OPTIONAL.into_iter().filter(|name| listed.contains(*name));
    Ok(REQUIRED.into_iter().chain(optional).chain([weights]).collect())
}

fn no_weights(listed: &BTreeSet<String>) -> String {
    let any = |extension: &str| {
        listed
            .iter()
            .any(|name| Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case(extension)))
    };
    if any("safetensors") {
        format!("has neither {SINGLE} nor {INDEX}")
    } else if any("gguf") {
        "has no safetensors files, only GGUF: download one of them and give its path".to_owned()
    } else {
        "has no safetensors files".to_owned()
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
        assert_eq!(wanted(&all).unwrap(), expected);
        let sharded = listed(&["config.json", "tokenizer.json", "model-1.safetensors", INDEX]);
        assert_eq!(wanted(&sharded).unwrap(), ["config.json", "tokenizer.json", INDEX]);
        let both = listed(&["config.json", "tokenizer.json", SINGLE, INDEX]);
        assert_eq!(wanted(&both).unwrap(), ["config.json", "tokenizer.json", SINGLE]);
    }

    #[test]
    fn what_is_lacking_is_named() {
        assert_eq!(
            wanted(&listed(&["a.gguf"])).unwrap_err(),
            "has no safetensors files, only GGUF: download one of them and give its path"
        );
        assert_eq!(wanted(&listed(&["config.json"])).unwrap_err(), "has no safetensors files");
        let adapter = wanted(&listed(&["adapter_model.safetensors"])).unwrap_err();
        assert_eq!(adapter, "has neither model.safetensors nor model.safetensors.index.json");
        assert_eq!(wanted(&listed(&["config.json", SINGLE])).unwrap_err(), "has no tokenizer.json");
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
