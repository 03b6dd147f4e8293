//! The arrows between the crates, as docs/architecture.md draws them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

const LIBRARIES: &[&str] = &["core", "quant", "metal", "inference", "training"];

/// Each crate and those it may use, tests included.
const ALLOWED: [(&str, &[&str]); 8] = [
    ("core", &[]),
    ("quant", &["core"]),
    ("metal", &["core", "quant"]),
    ("inference", &["core", "quant", "metal"]),
    ("training", &["core", "quant", "inference"]),
    ("benchmarks", LIBRARIES),
    // Its `bench` runs the tests of the benchmarks crate.
    ("cli", &["core", "quant", "metal", "inference", "training", "benchmarks"]),
    // The package's `bitnet` command is the one of the cli crate.
    ("python", &["core", "quant", "metal", "inference", "training", "cli"]),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
}

fn metadata() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let args = ["metadata", "--format-version", "1", "--no-deps", "--manifest-path", manifest];
    let output = Command::new(env!("CARGO")).args(args).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_arrow_points_down() {
    let short = |name: &str| name.strip_prefix("bitnet-").map(str::to_owned);
    let arrows: BTreeMap<String, BTreeSet<String>> = metadata()
        .packages
        .iter()
        .map(|package| {
            let uses = package.dependencies.iter().filter_map(|dependency| short(&dependency.name)).collect();
            (short(&package.name).expect("workspace crates are named bitnet-*"), uses)
        })
        .collect();
    let expected: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    assert_eq!(arrows.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected);
    for (name, allowed) in ALLOWED {
        for used in &arrows[name] {
            assert!(allowed.contains(&used.as_str()), "bitnet-{name} must not use bitnet-{used}");
        }
    }
}
