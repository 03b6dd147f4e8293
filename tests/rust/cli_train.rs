//! `bitnet train` as a user runs it.

mod command;

use std::fs;
use std::path::Path;

use command::{bitnet, printed, tiny};
use tempfile::TempDir;

const CONFIG: &str = r#"{
    "model_type": "bitnet", "vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "hidden_act": "relu2", "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true
}"#;

/// A folder with a config, and texts to learn and to evaluate.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        fs::write(files.path("config.json"), CONFIG).unwrap();
        let line =
            |i: usize| format!("Number {i} follows {}, and comes before {}.\n", i.wrapping_sub(1), i + 1);
        fs::write(files.path("train.txt"), (1..90).map(line).collect::<String>()).unwrap();
        fs::write(files.path("eval.txt"), (90..110).map(line).collect::<String>()).unwrap();
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// A command that trains the small model on the texts, in the folder `run`.
    fn command(&self, run: &str, more: &[&str]) -> Vec<String> {
        let (data, eval, run) = (self.path("train.txt"), self.path("eval.txt"), self.path(run));
        let args = ["train", "--data", &data, "--eval", &eval, "-o", &run, "--threads", "2"];
        let small = ["--config", &self.path("config.json"), "--seq-len", "32", "--batch-tokens", "128"];
        args.iter().chain(&small).chain(more).map(|arg| (*arg).to_owned()).collect()
    }
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// The line that a command which must fail says.
fn refused(args: &[&str], status: i32) -> String {
    let output = bitnet(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
    assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{stderr}");
    stderr
}

#[test]
fn a_model_is_trained_and_runs_and_is_trained_on() {
    let files = Files::new();
    let json = printed(&strs(&files.command("run", &["--steps", "8", "--lr", "1e-2", "--json"])));
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["steps"], &report["rolled_back"]), (&8.into(), &0.into()));
    let model = files.path("run/model");
    assert_eq!(report["model"], model.as_str());
    // A byte in 259, untrained.
    let loss = |report: &serde_json::Value| report["eval_loss"].as_f64().unwrap();
    assert!(loss(&report) < 259_f64.ln() - 0.5, "{report}");
    let metrics = fs::read_to_string(files.path("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 8);

    let eval = ["eval", &model, "--text", &files.path("eval.txt"), "--window", "32", "--json"];
    let evaluated: serde_json::Value = serde_json::from_str(&printed(&eval)).unwrap();
    let perplexity =
        |report: &serde_json::Value, name: &str| format!("{:.4}", report[name].as_f64().unwrap());
    assert_eq!(perplexity(&evaluated, "perplexity"), perplexity(&report, "eval_perplexity"));
    printed(&["run", &model, "-p", "Number 7", "-n", "4"]);

    let (data, eval, tuned) = (files.path("train.txt"), files.path("eval.txt"), files.path("tuned"));
    let tune = ["train", "--init", &model, "--data", &data, "--eval", &eval, "-o", &tuned, "--seq-len", "32"];
    let options = [
        "--accumulate",
        "2",
        "--optimizer",
        "adamw-8bit",
        "--sample-every",
        "4",
        "--sample-prompt",
        "Number",
    ];
    let tune =
        [&tune[..], &options, &["--batch-tokens", "128", "--steps", "8", "--lr", "1e-2", "--json"]].concat();
    let report_of_tuned: serde_json::Value = serde_json::from_str(&printed(&tune)).unwrap();
    assert!(loss(&report_of_tuned) < loss(&report), "{report_of_tuned}");
    let samples = fs::read_to_string(files.path("tuned/samples.jsonl")).unwrap();
    let steps =
        samples.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].clone());
    assert_eq!(steps.collect::<Vec<_>>(), [4, 8]);
    let table = printed(&[&tune[..tune.len() - 1], &["--resume"]].concat());
    assert!(
        table.contains("model ") && table.contains("evaluation ") && table.contains("of step 8"),
        "{table}"
    );
}

#[test]
fn an_adapter_is_trained_and_runs_beside_its_model() {
    let files = Files::new();
    let (data, eval, run, tiny) =
        (files.path("train.txt"), files.path("eval.txt"), files.path("run"), tiny());
    let train =
        ["train", "--init", &tiny, "--lora", "2", "--lora-alpha", "8", "--data", &data, "--eval", &eval];
    let small = ["--seq-len", "32", "--batch-tokens", "64", "--steps", "2", "--lr", "1e-3", "-o", &run];
    let json = printed(&[&train[..], &small, &["--json"]].concat());
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let adapter = files.path("run/adapter");
    assert_eq!(report["model"], adapter.as_str());
    let count = |name: &str| report[name].as_u64().unwrap();
    assert!(50 * count("trained_parameters") < count("parameters"), "{report}");
    let table = printed(&[&train[..], &small, &["--resume"]].concat());
    assert!(
        table.contains("adapter ") && table.contains("trained ") && table.contains(" % of all"),
        "{table}"
    );

    let beside = [&tiny, "--adapter", &adapter];
    let evaluate = [&["eval"], &beside[..], &["--text", &eval, "--window", "32", "--json"]].concat();
    let evaluated: serde_json::Value = serde_json::from_str(&printed(&evaluate)).unwrap();
    let digits = |value: &serde_json::Value| format!("{:.4}", value.as_f64().unwrap());
    assert_eq!(digits(&evaluated["perplexity"]), digits(&report["eval_perplexity"]));
    printed(&[&["run"], &beside[..], &["-p", "Number 7", "-n", "4"]].concat());
    let inspected = printed(&[&["inspect"], &beside[..]].concat());
    assert!(inspected.contains("rank 2, alpha 8"), "{inspected}");
    let bench = [&["bench"], &beside[..], &["-p", "0", "-n", "2", "-r", "1", "-t", "1"]].concat();
    let measured = printed(&[&bench[..], &["--bandwidth-mib", "1"]].concat());
    assert!(measured.contains("tg2"), "{measured}");
    let none = files.path("none");
    for command in [&["run", "-p", "Number"][..], &["bench"]] {
        let line = refused(&[command, &[&tiny, "--adapter", &none]].concat(), 1);
        assert!(line.contains("is no adapter"), "{line}");
    }
}

#[test]
fn a_model_learns_from_another() {
    let files = Files::new();
    printed(&strs(&files.command("teacher", &["--steps", "6", "--lr", "1e-2"])));
    let teacher = files.path("teacher/model");
    let (data, run) = (files.path("train.txt"), files.path("run"));
    let distill = ["train", "--data", &data, "-o", &run, "--recipe", "distill", "--teacher", &teacher];
    let small = ["--seq-len", "32", "--batch-tokens", "128", "--steps", "4", "--ramp", "0.5"];
    let small = [&small[..], &["--temperature", "1.5", "--relation-weight", "0"]].concat();
    printed(&[&distill[..], &small].concat());
    let metrics = fs::read_to_string(files.path("run/metrics.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> =
        metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row["logit_kl"].is_f64() && row["relation_kl"].is_null()), "{metrics}");
    // Another student than the teacher itself.
    let other = files.command("other", &["--recipe", "distill", "--teacher", &teacher, "--steps", "1"]);
    printed(&strs(&other));
}

#[test]
fn a_run_goes_on_only_when_asked_to_and_as_it_began() {
    let files = Files::new();
    let begun = files.command("run", &["--steps", "2"]);
    printed(&strs(&begun));
    assert!(refused(&strs(&begun), 1).contains("has a run already; resume it, or give another folder"));
    let other = files.command("run", &["--steps", "2", "--seed", "9", "--resume"]);
    assert!(refused(&strs(&other), 1).contains("cannot go on from here: seed was 0 and is 9"));
    printed(&strs(&files.command("run", &["--steps", "2", "--resume"])));
}

#[test]
fn refusals_are_one_line_and_leave_no_run() {
    let files = Files::new();
    fs::write(files.path("empty.txt"), "").unwrap();
    fs::write(files.path("short.txt"), "Hi").unwrap();
    let [run, train, config] = ["run", "train.txt", "config.json"].map(|name| files.path(name));
    let base = ["train", "-o", &run, "--config", &config];
    for (more, status, fact) in [
        (&["--data", &files.path("none.txt")][..], 1, "none.txt"),
        (&["--data", &files.path("empty.txt")], 1, "empty.txt: is empty"),
        (&["--data", &files.path("short.txt")], 1, "the data has 4 tokens, which make no sequence of 64"),
        (
            &["--data", &train, "--seq-len", "65"],
            1,
            "sequences of 65 tokens do not fit the context of the model, 64",
        ),
        (&["--data", &train, "--recipe", "other"], 2, "recipe must be b1.58, finetune or distill, not other"),
        (&["--data", &train, "--recipe", "distill"], 2, "--recipe distill needs --teacher MODEL"),
        (&["--data", &train, "--teacher", "x"], 2, "--teacher is for --recipe distill"),
        (&["--data", &train, "--temperature", "1"], 2, "--teacher <MODEL>"),
        (
            &["--data", &train, "--teacher", "x", "--logit-weight", "-1"],
            2,
            "a number of at least 0 is needed",
        ),
        (&["--data", &train, "--optimizer", "lion"], 2, "optimizer must be adamw or adamw-8bit, not lion"),
        (&["--data", &train, "--accumulate", "65"], 2, "not 65 of 64 sequences"),
        (&["--data", &train, "--sample-every", "3"], 2, "--sample-prompt <TEXT>"),
        (&["--data", &train, "--lr", "0"], 2, "a number above 0 is needed"),
        (&["--data", &train, "--steps", "0"], 2, "a whole number of at least 1 is needed"),
        (&["--data", &train, "--steps", "1", "--epochs", "1"], 2, "cannot be used with"),
        (&["--data", &train, "--preset", "tiny"], 2, "cannot be used with"),
        (&["--data", &train, "--init", &tiny()], 2, "--config and --preset are for new models"),
        (&["--data", &train, "--lora", "0"], 2, "a whole number of at least 1 is needed"),
        (&["--data", &train, "--lora-alpha", "8"], 2, "--lora"),
        (&[], 2, "--data"),
    ] {
        let line = refused(&[&base[..], more].concat(), status);
        assert!(line.contains(fact), "{more:?}: {line}");
    }
    assert!(!Path::new(&run).join("metrics.jsonl").exists());
    let base = ["train", "--data", &train];
    for (more, status, fact) in [
        (&["-o", &run, "--preset", "huge"][..], 2, "preset must be tiny or mini, not huge"),
        (&["-o", &run, "--lora", "8"], 2, "--lora adapts a model: give --init MODEL"),
        (
            &["-o", &run, "--init", &tiny(), "--lora", "129"],
            2,
            "--lora must be from 1 to the width of the narrowest",
        ),
        (&["-o", &run, "--init", "/no/such/model"], 1, "no such model"),
        (&["-o", &run, "--config", "/no/such/config.json"], 1, "/no/such/config.json"),
        // As good as a folder that cannot be written, whoever runs this.
        (&["-o", &format!("{train}/run")], 1, "train.txt/run"),
        (&[], 2, "--output"),
    ] {
        let line = refused(&[&base[..], more].concat(), status);
        assert!(line.contains(fact), "{more:?}: {line}");
    }
}
