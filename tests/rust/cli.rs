//! The `bitnet` command as a user runs it: golden text, streaming, pipes, Ctrl-C, and the figures it reports.

#[path = "cli_batch.rs"]
mod batch;
#[path = "cli_chat.rs"]
mod chat;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A prompt whose greedy text goes on for more than 2000 tokens.
const ENDLESS: [&str; 5] = ["run", "-p", "The", "-n", "2000"];
const CITIZENS: &str = "My fellow citizens, today we";

fn bitnet(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What a run that succeeds prints to stdout and to stderr.
fn run(args: &[&str]) -> (String, String) {
    let Output { status, stdout, stderr } = bitnet(args).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{args:?}: {status}, {stderr}");
    (stdout, stderr)
}

/// The object that a run with `--json` prints, and nothing else.
fn json(args: &[&str]) -> Value {
    let (stdout, stderr) = run(&[args, &["--json"]].concat());
    assert_eq!(stderr, "");
    serde_json::from_str(&stdout).unwrap()
}

fn ids(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

fn golden() -> Value {
    let path = root().join("tests/fixtures/golden/bitnet-tiny.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn greedy_text_is_golden() {
    // Prompt 5 has a near tie at token 12: see tests/rust/golden.rs.
    let comparable = |index: usize| if index == 5 { 12 } else { 48 };
    for (index, prompt) in golden()["prompts"].as_array().unwrap().iter().enumerate() {
        let got = json(&["run", "-p", prompt["text"].as_str().unwrap(), "-n", "48"]);
        let (expected, got_ids) = (ids(&prompt["greedy_ids"]), ids(&got["token_ids"]));
        let length = comparable(index);
        assert_eq!(got_ids[..length], expected[..length], "prompt {index}");
        if length == 48 {
            assert_eq!(got["text"], prompt["greedy_text"], "prompt {index}");
        }
        assert_eq!(got["prompt_tokens"], prompt["ids"].as_array().unwrap().len());
        assert_eq!(got["completion_tokens"], got_ids.len());
        assert_eq!(got["finish_reason"], "length");
    }
}

#[test]
fn json_has_the_seed_and_all_timings() {
    let got = json(&["run", "-p", "Once", "-n", "3", "--seed", "18446744073709551615"]);
    assert_eq!(got["seed"], u64::MAX);
    for name in ["prefill_s", "decode_s", "prefill_tokens_per_s", "decode_tokens_per_s"] {
        assert!(float(&got["timings"][name]) > 0.0, "{name}");
    }
}

#[test]
fn streamed_text_is_that_of_json_and_statistics_go_to_stderr() {
    let args = ["run", "-p", CITIZENS, "-n", "30"];
    let (stdout, stderr) = run(&args);
    assert_eq!(stdout, json(&args)["text"].as_str().unwrap().to_owned() + "\n");
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
    assert!(stderr.starts_with("prompt: 13 tokens, ") && stderr.contains("text: 30 tokens, "), "{stderr}");
    assert!(stderr.contains("finish: length\n"), "{stderr}");
}

#[test]
fn a_seed_gives_the_same_text_on_any_number_of_threads() {
    let args = |seed, threads| {
        ["run", "-p", "Once", "-n", "60", "--temperature", "0.8", "--seed", seed, "--threads", threads]
    };
    let (text, stderr) = run(&args("7", "1"));
    assert!(stderr.ends_with("1 thread; seed 7\n"), "{stderr}");
    assert_eq!(run(&args("7", "2")).0, text);
    assert_ne!(run(&args("8", "2")).0, text);
}

#[test]
fn a_text_fits_what_constrains_it_and_reports_log_probabilities() {
    let schema = r#"{"type": "array", "items": {"enum": ["yes", "no"]}, "minItems": 2, "maxItems": 2}"#;
    let got =
        json(&["run", "-p", CITIZENS, "--json-schema", schema, "--logprobs", "2", "--logit-bias", "5=-inf"]);
    assert_eq!(got["finish_reason"], "stop");
    let answers: Vec<String> = serde_json::from_str(got["text"].as_str().unwrap()).unwrap();
    assert!(
        answers.len() == 2 && answers.iter().all(|answer| answer == "yes" || answer == "no"),
        "{answers:?}"
    );
    let logprobs = got["logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), ids(&got["token_ids"]).len());
    assert!(logprobs.iter().all(|one| float(&one["logprob"]) <= float(&one["top"][0][1])));
    assert!(json(&["run", "-p", CITIZENS, "-n", "2"]).get("logprobs").is_none());
}

#[test]
fn a_stop_string_ends_the_text_and_is_not_part_of_it() {
    let got = json(&["run", "-p", CITIZENS, "--stop", "States", "--stop", "United"]);
    assert_eq!(got["text"], " have told the American people of the ");
    assert_eq!(got["finish_reason"], "stop");
    let (text, stderr) = run(&["run", "-p", CITIZENS, "--stop", " the "]);
    assert_eq!(text, " have told\n");
    assert!(stderr.contains("finish: stop"), "{stderr}");
}

#[test]
fn a_prompt_comes_from_a_file_or_standard_input_too() {
    let expected = run(&["run", "-p", CITIZENS, "-n", "12"]).0;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, CITIZENS).unwrap();
    assert_eq!(run(&["run", "-f", file.path().to_str().unwrap(), "-n", "12"]).0, expected);
    let mut child = bitnet(&["run", "-f", "-", "-n", "12"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(CITIZENS.as_bytes()).unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, expected.as_bytes());
}

#[test]
fn prompts_and_stop_strings_may_begin_with_a_hyphen() {
    assert!(!run(&["run", "-p", "- a list", "-n", "4", "--stop", "--"]).0.is_empty());
}

/// Starts an endless run, on the slowest kernels lest it ends, and waits for its first piece of text.
fn start_endless() -> Child {
    let mut child = bitnet(&ENDLESS).env("BITNET_ISA", "scalar").spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
    child
}

#[test]
fn a_closed_pipe_ends_the_run_quietly() {
    let mut child = start_endless();
    drop(child.stdout.take());
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!((status.code(), String::from_utf8(stderr).unwrap().as_str()), (Some(0), ""));
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_run_cleanly() {
    let child = start_endless();
    interrupt(&child);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(stdout.ends_with(b"\n"));
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(stderr.contains("finish: cancelled") && stderr.lines().count() == 2, "{stderr}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_wait_for_standard_input() {
    use std::os::unix::process::ExitStatusExt;
    let mut child = bitnet(&["run", "-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let open = child.stdin.take();
    std::thread::sleep(std::time::Duration::from_millis(500));
    interrupt(&child);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    // On a very busy machine the signal may come before its handler is there.
    assert!(status.code() == Some(130) || status.signal() == Some(2), "{status}");
    assert_eq!((stdout, stderr), (Vec::new(), Vec::new()));
    drop(open);
}

#[test]
fn inspect_reports_figures_that_follow_from_the_config() {
    let model = root().join("tests/fixtures/bitnet-tiny");
    let config: Value = serde_json::from_slice(&std::fs::read(model.join("config.json")).unwrap()).unwrap();
    let size = |name: &str| config[name].as_u64().unwrap();
    let (hidden, feed_forward) = (size("hidden_size"), size("intermediate_size"));
    let (layers, heads, vocab) = (size("num_hidden_layers"), size("num_attention_heads"), size("vocab_size"));
    let kv_width = hidden / heads * size("num_key_value_heads");
    let ternary = layers * (2 * hidden * hidden + 2 * hidden * kv_width + 3 * hidden * feed_forward);
    // Two norms before and one within attention, one within the feed-forward network; one at the end.
    let norms = layers * (3 * hidden + feed_forward) + hidden;
    let got = json(&["inspect", model.to_str().unwrap()]);
    assert_eq!(got["ternary_parameters"], ternary);
    assert_eq!(got["parameters"], ternary + vocab * hidden + norms);
    // Four codes to a byte, a bf16 embedding that is the head too, f32 norms.
    let bytes = ternary / 4 + 2 * vocab * hidden + 4 * norms;
    assert_eq!(got["weight_bytes"], bytes);
    assert_eq!(got["bytes_per_token"], bytes);
    assert!((float(&got["bytes_per_weight"]) - bytes as f64 / float(&got["parameters"])).abs() < 1e-9);
    assert_eq!(got["family"], "bitnet");
    assert_eq!(got["scale_sense"], "multiply");
    assert_eq!(got["context_length"], size("max_position_embeddings"));
    assert_eq!(got["tokenizer"], "BPE");
}

#[test]
fn inspect_prints_aligned_text() {
    let text = run(&["inspect"]).0;
    for line in
        ["family           bitnet\n", "ternary          3,145,728\n", "context          2,048 tokens\n"]
    {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn eval_reports_the_exponential_of_the_mean() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "The film was released in the United States and Canada. ".repeat(20)).unwrap();
    let path = file.path().to_str().unwrap();
    let got = json(&["eval", "--text", path, "--window", "64", "--max-windows", "2"]);
    let windows: Vec<f64> = got["nll_per_window"].as_array().unwrap().iter().map(float).collect();
    let nll = windows.iter().sum::<f64>() / 2.0;
    assert!((float(&got["nll"]) - nll).abs() < 1e-12);
    assert!((float(&got["perplexity"]) / nll.exp() - 1.0).abs() < 1e-12);
    assert_eq!((&got["windows"], &got["tokens"], &got["window"]), (&2.into(), &128.into(), &64.into()));
    assert!(float(&got["seconds"]) > 0.0 && float(&got["tokens_per_s"]) > 0.0);
    let (text, stderr) = run(&["eval", "--text", path, "--window", "64", "--max-windows", "2"]);
    assert!(text.starts_with(&format!("perplexity  {:.4}\n", nll.exp())), "{text}");
    assert_eq!(stderr, "", "no bar where there is no terminal");
}

#[test]
fn eval_agrees_with_the_golden_perplexity() {
    let path = root().join("../shared/data/wikitext2-test-200k.txt");
    if !path.is_file() {
        eprintln!("skipped: {} is not there", path.display());
        return;
    }
    let golden = &golden()["perplexity"];
    let (window, windows) = (golden["window"].to_string(), golden["windows"].to_string());
    let path = path.to_str().unwrap();
    let got = json(&["eval", "--text", path, "--window", &window, "--max-windows", &windows]);
    let (got, expected) = (float(&got["perplexity"]), float(&golden["ppl"]));
    assert!((got / expected - 1.0).abs() <= 1e-3, "{got} is not {expected}");
}

#[test]
fn doctor_finds_every_kernel_right() {
    let got = json(&["doctor", "--threads", "2"]);
    let isas = got["isas"].as_array().unwrap();
    assert!(isas.contains(&got["isa"]) && isas.contains(&"scalar".into()), "{got}");
    assert_eq!(got["isa_forced"], std::env::var("BITNET_ISA").is_ok_and(|name| !name.is_empty()));
    assert_eq!(got["threads"], 2);
    let tests = got["self_test"].as_array().unwrap();
    assert_eq!(tests.len(), isas.len());
    assert!(tests.iter().all(|test| test["wrong"] == 0 && float(&test["products"]) > 0.0), "{got}");
    let metal = got["metal_devices"].as_array().unwrap();
    assert_eq!(got["metal_self_test"].is_null(), metal.is_empty(), "{got}");
    assert!(cfg!(target_os = "macos") || metal.is_empty());
    let bandwidth = &got["read_bandwidth_gb_s"];
    assert!(float(&bandwidth["one_thread"]) > 0.0 && float(&bandwidth["all_threads"]) > 0.0);
}

#[test]
fn help_and_version_go_to_stdout() {
    assert_eq!(run(&["--version"]).0, format!("bitnet {}\n", env!("CARGO_PKG_VERSION")));
    for args in [&["--help"][..], &["run", "--help"], &["help", "eval"], &["doctor", "-h"]] {
        let (stdout, stderr) = run(args);
        assert!(stdout.contains("Usage: bitnet") && stdout.contains("\nExamples:\n  bitnet "), "{stdout}");
        assert_eq!(stderr, "");
    }
}
