//! `bitnet convert` and `bitnet verify` as a user runs them.

mod command;

use std::path::Path;

use command::{bitnet, printed, tiny};

#[test]
fn a_model_goes_round_and_verifies_against_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let steps = [
        (tiny(), path("a.gguf"), None, "gguf-i2_s"),
        (path("a.gguf"), path("b"), Some("hf-bitlinear"), "hf-bitlinear"),
        (path("b"), path("c"), Some("bf16"), "bf16"),
        (path("c"), path("d"), None, "hf"),
    ];
    for (source, destination, to, form) in &steps {
        let mut args = vec!["convert", source, destination, "--threads", "2"];
        args.extend(to.iter().flat_map(|to| ["--to", *to]));
        let report = printed(&args);
        let has = |name: &str, value: &str| {
            report.lines().any(|line| line.starts_with(name) && line.ends_with(value))
        };
        assert!(has("written", destination) && has("form", form) && has("lost", "nothing"), "{report}");
        assert!(report.contains("28 of them ternary"), "{report}");
    }
    let report = printed(&["verify", &path("d"), "--against", &tiny(), "--threads", "2"]);
    assert!(report.lines().all(|line| line.starts_with("ok ")), "{report}");
    assert!(
        report.contains("the same bits behind") && report.contains("the same in all 28 matrices"),
        "{report}"
    );
}

#[test]
fn a_model_merged_with_itself_is_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    printed(&["convert", &tiny(), &path("a"), "--to", "bf16", "--threads", "1"]);
    let report =
        printed(&["merge", &path("a"), &path("a"), "-o", &path("b"), "--weights", "1,3", "--threads", "1"]);
    assert!(report.contains("28 of them ternary"), "{report}");
    let weights = |name| std::fs::read(Path::new(&path(name)).join("model.safetensors")).unwrap();
    assert!(weights("a") == weights("b"));
}

#[test]
fn a_broken_model_fails_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(Path::new(&tiny()).join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("autobitlinear", "bitlinear")).unwrap();
    let output = bitnet(&["verify", folder.path().to_str().unwrap(), "--threads", "2"]);
    let report = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{report}");
    let failed: Vec<&str> = report.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert!(
        failed.iter().any(|line| line.contains("scale sense") && line.contains("reads best so")),
        "{report}"
    );
    assert!(String::from_utf8(output.stderr).unwrap().contains("failed\n"));
    let json = bitnet(&["verify", folder.path().to_str().unwrap(), "--json", "--threads", "2"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["tensors"].as_array().unwrap().len(), 28);
}

#[test]
fn refusals_are_one_line_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    std::fs::write(&there, "mine").unwrap();
    let there = there.to_str().unwrap();
    for (args, status, fact) in [
        (&["convert", &tiny(), there][..], 1, "is there already; give a new name"),
        (&["convert", "/no/such/model", "x"], 1, "no such model"),
        (&["convert", &tiny(), "x", "--to", "onnx"], 2, "--to"),
        (&["convert", &tiny(), "x", "--shard-size", "5XB"], 2, "a size like 5GB"),
        (&["convert", &tiny(), "x", "--shard-size", "0"], 2, "a size like 5GB"),
        (&["convert", &tiny(), "x", "--head", "q8_0"], 2, "--head must be f16 or bf16"),
        (&["merge", &tiny(), &tiny(), "-o", "x"], 1, "merge the float masters"),
        (&["merge", &tiny(), "-o", "x"], 2, "2 values required"),
        (&["merge", "-o", "x"], 2, "required arguments were not provided: <MODEL> <MODEL>"),
        (&["merge", &tiny(), &tiny(), "-o", "x", "--weights", "1,-1"], 2, "a sum above 0"),
        (&["verify", "/no/such/model"], 1, "no such model"),
        (&["verify", &tiny(), "--against", "/no/such/model"], 1, "no such model"),
    ] {
        let output = bitnet(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
        assert!(
            stderr.starts_with("error: ") && stderr.lines().count() == 1 && stderr.contains(fact),
            "{stderr}"
        );
    }
    assert_eq!(std::fs::read(there).unwrap(), b"mine");
}
