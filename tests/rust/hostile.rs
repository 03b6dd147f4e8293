//! Damaged and lying checkpoints: an error of one line, never a panic, whatever the bytes.
//!
//! `tests/fixtures/hostile` keeps one safetensors or GGUF file per kind of lie; the fuzz tests start from `micro` and
//! `micro.gguf`, a random checkpoint of a few kilobytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitnet_inference::{GenerateOptions, LoadOptions, LoadedModel, Prompt};
use proptest::prelude::*;

const FILES: [&str; 4] = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn options() -> LoadOptions {
    LoadOptions { threads: Some(1), ..LoadOptions::default() }
}

/// The micro checkpoint with one file replaced.
fn with_file(name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in FILES {
        fs::copy(fixtures().join("micro").join(file), folder.path().join(file)).unwrap();
    }
    fs::write(folder.path().join(name), bytes).unwrap();
    folder
}

/// Loads and, if that works, computes: what loads must also run, or say in one line why not.
fn load_and_run(folder: &Path) -> Result<(), String> {
    let run = |model: &Arc<LoadedModel>| {
        let options = GenerateOptions { max_tokens: 2, ..GenerateOptions::default() };
        model.generate(Prompt::Ids(&[0, 5, 7]), &options).map(drop)
    };
    LoadedModel::open(folder, &options()).and_then(|model| run(&model)).map_err(|error| error.to_string())
}

fn assert_one_line(message: &str) {
    assert!(!message.contains('\n') && message.len() < 1000, "{message:?}");
}

#[test]
fn the_sound_checkpoints_run() {
    load_and_run(&fixtures().join("micro")).unwrap();
    load_and_run(&fixtures().join("micro.gguf")).unwrap();
}

/// The kept lies of one format.
fn lies(extension: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(fixtures().join("hostile")).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

#[test]
fn every_kept_lie_of_a_gguf_file_is_refused_with_one_line_that_names_it() {
    let lies = lies("gguf");
    for path in &lies {
        let message = load_and_run(path).expect_err(&path.display().to_string());
        assert_one_line(&message);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(message.contains(name), "{name}: {message}");
    }
    assert!(lies.len() >= 30, "{} seeds", lies.len());
}

/// `micro` in two parts, the second replaced by what `second` makes of it, under the name of a part.
fn in_parts(second: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let part = |number: u8| format!("micro-0000{number}-of-00002.gguf");
    let kept = fixtures().join("micro-parts");
    fs::copy(kept.join(part(1)), folder.path().join(part(1))).unwrap();
    if let Some(bytes) = second(fs::read(kept.join(part(2))).unwrap()) {
        fs::write(folder.path().join(part(2)), bytes).unwrap();
    }
    load_and_run(&folder.path().join(part(1)))
}

#[test]
fn parts_that_do_not_fit_are_named() {
    in_parts(Some).unwrap();
    let first = || fs::read(fixtures().join("micro-parts/micro-00001-of-00002.gguf")).unwrap();
    let with = |key: &'static str, value: u8| {
        move |mut bytes: Vec<u8>| {
            let at = bytes.windows(key.len()).position(|found| found == key.as_bytes()).unwrap();
            bytes[at + key.len() + 4] = value;
            Some(bytes)
        }
    };
    let said = [
        (in_parts(|_| None), "micro-00002-of-00002.gguf: is missing; "),
        (in_parts(|_| Some(Vec::new())), "micro-00002-of-00002.gguf: the magic"),
        (in_parts(|bytes| Some(bytes[..bytes.len() - 64].to_vec())), "micro-00002-of-00002.gguf: tensor"),
        (in_parts(|_| Some(first())), "00002-of-00002.gguf: key \"split.no\""),
        (
            in_parts(|_| Some(fs::read(fixtures().join("micro.gguf")).unwrap())),
            "key \"split.no\", byte 0: expected the number",
        ),
        (in_parts(with("split.count", 3)), "key \"split.count\""),
        (in_parts(with("split.no", 0)), "expected 1, got 0"),
    ];
    for (result, expected) in said {
        let message = result.expect_err(expected);
        assert_one_line(&message);
        assert!(message.contains(expected), "{message} / {expected}");
    }
    let message = load_and_run(&fixtures().join("micro-parts/micro-00002-of-00002.gguf")).unwrap_err();
    assert!(
        message.contains("expected the first of 2 parts, micro-00001-of-00002.gguf, got part 2"),
        "{message}"
    );
    // The folder is the model.
    load_and_run(&fixtures().join("micro-parts")).unwrap();
}

#[test]
fn every_kept_lie_is_refused_with_one_line_that_names_the_file() {
    let lies = lies("safetensors");
    for path in &lies {
        let folder = with_file("model.safetensors", &fs::read(path).unwrap());
        let message = load_and_run(folder.path()).expect_err(&path.display().to_string());
        assert_one_line(&message);
        assert!(message.contains("model.safetensors"), "{}: {message}", path.display());
    }
    assert!(lies.len() >= 18, "{} seeds", lies.len());
}

/// A change to a file.
#[derive(Debug, Clone)]
enum Mutation {
    /// Other bytes at relative places.
    Bytes(Vec<(prop::sample::Index, u8)>),
    /// The end cut off.
    Truncate(prop::sample::Index),
    /// A piece copied over another place.
    Splice(prop::sample::Index, prop::sample::Index, u8),
    /// A number of the text replaced.
    Number(prop::sample::Index, i64),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Bytes(changes) => {
                for (at, byte) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            Self::Truncate(at) => bytes.truncate(at.index(bytes.len())),
            Self::Splice(from, to, len) => {
                let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
                let len = usize::from(*len).min(bytes.len() - from.max(to));
                bytes.copy_within(from..from + len, to);
            }
            Self::Number(which, value) => replace_number(bytes, *which, *value),
        }
    }
}

/// Replaces a run of digits. In a safetensors file the length in front of the header follows, so that the change
/// reaches the checks behind the parser.
fn replace_number(bytes: &mut Vec<u8>, which: prop::sample::Index, value: i64) {
    let is_start = |&i: &usize| bytes[i].is_ascii_digit() && (i == 0 || !bytes[i - 1].is_ascii_digit());
    let starts: Vec<usize> = (0..bytes.len().min(4096)).filter(is_start).collect();
    if starts.is_empty() {
        return;
    }
    let start = starts[which.index(starts.len())];
    let len = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = value.to_string();
    bytes.splice(start..start + len, text.bytes());
    if let Some(header) = bytes.first_chunk_mut::<8>().filter(|header| header[4..] == [0; 4]) {
        let length = u64::from_le_bytes(*header);
        *header = (length + text.len() as u64).wrapping_sub(len as u64).to_le_bytes();
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let numbers = prop_oneof![
        Just(0),
        Just(1),
        Just(-1),
        Just(i64::MAX),
        Just(1 << 31),
        Just(1 << 40),
        0..200_i64,
        any::<i64>()
    ];
    prop_oneof![
        prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..6).prop_map(Mutation::Bytes),
        any::<prop::sample::Index>().prop_map(Mutation::Truncate),
        any::<(prop::sample::Index, prop::sample::Index, u8)>()
            .prop_map(|(a, b, n)| Mutation::Splice(a, b, n)),
        (any::<prop::sample::Index>(), numbers).prop_map(|(at, value)| Mutation::Number(at, value)),
    ]
}

proptest! {
    #[test]
    fn no_mutation_panics(file in prop::sample::select(&FILES[..]), changes in prop::collection::vec(mutation(), 1..4)) {
        let mut bytes = fs::read(fixtures().join("micro").join(file)).unwrap();
        for change in &changes {
            if !bytes.is_empty() {
                change.apply(&mut bytes);
            }
        }
        let folder = with_file(file, &bytes);
        if let Err(message) = load_and_run(folder.path()) {
            assert_one_line(&message);
        }
    }

    #[test]
    fn no_mutation_of_a_gguf_file_panics(changes in prop::collection::vec(mutation(), 1..4)) {
        let mut bytes = fs::read(fixtures().join("micro.gguf")).unwrap();
        for change in &changes {
            if !bytes.is_empty() {
                change.apply(&mut bytes);
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        fs::write(&path, &bytes).unwrap();
        if let Err(message) = load_and_run(&path) {
            assert_one_line(&message);
        }
    }
}
