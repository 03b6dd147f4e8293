//! `bitnet bench` as a user runs it: what it reports follows from what it measured, and what it refuses.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const USAGE: i32 = 2;
const FAILURE: i32 = 1;
/// The default takes a second of a test for a figure that no test looks at.
const SMALL_BUFFER: [&str; 2] = ["--bandwidth-mib", "8"];
const TINY: [&str; 2] = ["--synthetic", "tiny"];

fn bench(args: &[&[&str]]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet"));
    command.arg("bench").args(SMALL_BUFFER).args(args.concat()).stdin(Stdio::null());
    command.output().unwrap()
}

/// What a run that succeeds prints; nothing goes to stderr.
fn run(args: &[&[&str]]) -> String {
    let Output { status, stdout, stderr } = bench(args);
    assert!(
        status.success() && stderr.is_empty(),
        "{args:?}: {status}, {}",
        String::from_utf8_lossy(&stderr)
    );
    String::from_utf8(stdout).unwrap()
}

fn rows(args: &[&[&str]]) -> Vec<Value> {
    serde_json::from_str(&run(&[args, &[&["--json"]]].concat())).unwrap()
}

fn refuses(args: &[&[&str]], status: i32, fact: &str) {
    let output = bench(args);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(status), &b""[..]),
        "{args:?}: {line}"
    );
    assert!(
        line.starts_with("error: ") && line.lines().count() == 1 && line.contains(fact),
        "{args:?}: {line}"
    );
}

fn float(row: &Value, path: &str) -> f64 {
    row.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} of {row}"))
}

fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * b.abs()
}

fn tiny_fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/bitnet-tiny")
}

#[test]
fn figures_follow_from_each_other() {
    let rows = rows(&[&TINY, &["-p", "16", "-n", "8", "-r", "1", "-t", "2"]]);
    let tests: Vec<&str> = rows.iter().map(|row| row["test"].as_str().unwrap()).collect();
    assert_eq!(tests, ["pp16", "tg8"]);
    for row in &rows {
        assert_eq!((&row["threads"], &row["batch"]), (&2.into(), &1.into()));
        let median = float(row, "/tokens_per_s/median");
        assert!(
            median > 0.0 && float(row, "/tokens_per_s/min") == median,
            "one repetition has no spread: {row}"
        );
        assert!(float(row, "/bytes_per_token") > 0.0);
        assert!(row["peak_memory_bytes"].is_u64() == cfg!(target_os = "linux"), "{row}");
    }
    let (prefill, decode) = (&rows[0], &rows[1]);
    let score = float(decode, "/tokens_per_s/median") / float(decode, "/read_bandwidth_gb_s");
    assert!(
        is_close(float(decode, "/decode_score"), score) && decode.get("prefill_share").is_none(),
        "{decode}"
    );
    // Two blocks of q and o, k and v, gate, up and down.
    let macs = 2.0 * (2.0 * 256.0 * 256.0 + 2.0 * 128.0 * 256.0 + 3.0 * 512.0 * 256.0);
    let share = float(prefill, "/tokens_per_s/median") * macs / 1e9 / float(prefill, "/int8_peak_gmac_s");
    assert!(
        is_close(float(prefill, "/prefill_share"), share) && prefill.get("decode_score").is_none(),
        "{prefill}"
    );
    assert!(
        float(prefill, "/bytes_per_token") < float(decode, "/bytes_per_token"),
        "a prompt shares its reads"
    );
}

#[test]
fn repetitions_have_a_median_between_the_extremes() {
    let rows = rows(&[&TINY, &["-p", "0", "-n", "4", "-r", "4", "-t", "1"]]);
    assert_eq!(rows.len(), 1, "-p 0 reads no prompt");
    let speed =
        ["/tokens_per_s/min", "/tokens_per_s/median", "/tokens_per_s/max"].map(|at| float(&rows[0], at));
    assert!(speed.is_sorted(), "{speed:?}");
}

#[test]
fn lists_give_every_combination() {
    let rows = rows(&[&TINY, &["-p", "4,300", "-n", "2", "-r", "1", "-t", "1,2"]]);
    let got: Vec<_> =
        rows.iter().map(|row| (row["test"].as_str().unwrap(), row["threads"].as_u64())).collect();
    let each = |threads| ["pp4", "pp300", "tg2"].map(|test| (test, Some(threads)));
    assert_eq!(got, [each(1), each(2)].concat());
}

#[test]
fn batches_decode_that_many_tokens_and_are_compared_with_one_sequence() {
    let rows = rows(&[&TINY, &["-p", "0", "-n", "6", "-b", "4,1", "-r", "1", "-t", "2"]]);
    let tests: Vec<&str> = rows.iter().map(|row| row["test"].as_str().unwrap()).collect();
    assert_eq!((tests.as_slice(), &rows[1]["batch"]), (&["tg6", "tg6 x4"][..], &4.into()));
    let ratio = float(&rows[1], "/tokens_per_s/median") / float(&rows[0], "/tokens_per_s/median");
    assert!(is_close(float(&rows[1], "/batch_speedup"), ratio) && rows[0].get("batch_speedup").is_none());
    assert!(float(&rows[1], "/bytes_per_token") < float(&rows[0], "/bytes_per_token"), "weights are shared");
}

#[test]
fn the_table_names_the_machine_and_has_a_line_per_test() {
    let text = run(&[&TINY, &["-p", "4", "-n", "2", "-r", "1", "-t", "1"]]);
    let lines: Vec<&str> = text.lines().collect();
    let starts = ["", "", "test ", "pp4 ", "tg2 "];
    assert!(lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{text}");
    assert_eq!(lines.len(), starts.len(), "{text}");
}

#[test]
fn models_are_measured_where_they_are() {
    let tests: [&[&str]; 1] = [&["-p", "8", "-n", "2", "-r", "1", "-t", "1"]];
    let embedded = rows(&tests);
    let fixture = rows(&[tests[0], &[tiny_fixture().to_str().unwrap()]]);
    assert_eq!(embedded[1]["bytes_per_token"], fixture[1]["bytes_per_token"]);
}

#[test]
fn a_saved_model_costs_what_the_one_in_memory_does() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("tiny");
    let folder = folder.to_str().unwrap();
    assert_eq!(run(&[&TINY, &["--save", folder]]), "");
    let tests = ["-p", "8", "-n", "2", "-r", "1", "-t", "1"];
    let (saved, made) = (rows(&[&[folder], &tests]), rows(&[&TINY, &tests]));
    for (saved, made) in saved.iter().zip(&made) {
        assert_eq!(saved["bytes_per_token"], made["bytes_per_token"]);
    }
    refuses(&[&TINY, &["--save", folder]], FAILURE, "is not empty");
}

#[test]
fn wrong_uses_are_refused() {
    for (args, fact) in [
        (&["-p", "0", "-n", "0"][..], "nothing to measure"),
        (&["-p", "-1"], "--n-prompt"),
        (&["-p", "1,x"], "a whole number is needed"),
        (&["-n", "1.5"], "--n-gen"),
        (&["-t", "0"], "--threads"),
        (&["-t", "1,0"], "--threads"),
        (&["-t", "5000"], "threads must be between 1 and 1024, not 5000"),
        (&["-b", "0"], "a whole number from 1 to 1024"),
        (&["-b", "1,5000"], "--batch"),
        (&["-r", "0"], "--repetitions"),
        (&["--bandwidth-mib", "0"], "--bandwidth-mib"),
        (&["--synthetic", "3b"], "[possible values: 2b-4t, tiny]"),
        (&["--synthetic", "tiny", "./model"], "cannot be used with"),
        (&["--save", "x"], "--synthetic <SHAPE>"),
        (
            &["--synthetic", "tiny", "-p", "4097"],
            "--n-prompt is 4097; the context of this model holds 4096 tokens",
        ),
        (
            &["--synthetic", "tiny", "-n", "4093"],
            "--n-gen is 4093; the context of this model holds 4096 tokens, 4 of",
        ),
        (&["--synthetic", "2b-4t", "-n", "99999999999"], "--n-gen is 99999999999"),
    ] {
        refuses(&[args], USAGE, fact);
    }
}

#[test]
fn models_and_memory_that_are_not_there() {
    refuses(&[&["--json", "-t", "1", "/no/such"]], FAILURE, "no such model");
    let output = Command::new(env!("CARGO_BIN_EXE_bitnet"))
        .args(["bench", "--json", "--bandwidth-mib", "9999999999999"])
        .output()
        .unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(FAILURE), "{line}");
    assert_eq!(line, "error: 10485759999998951424 bytes do not fit into memory\n");
}
