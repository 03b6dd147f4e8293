//! What the `bitnet` command refuses: one line on stderr that says why, nothing on stdout, the right exit status.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const USAGE: i32 = 2;
const FAILURE: i32 = 1;

fn bitnet(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// Runs the command, checks that it refuses with `status` and in one line, and returns the line.
fn line_of(command: &mut Command, status: i32) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{command:?}: {stderr}");
    assert_eq!(output.stdout, b"", "{command:?}");
    let line = stderr.strip_suffix('\n').unwrap_or_default();
    assert!(line.starts_with("error: ") && !line.contains(char::is_control), "{command:?}: {stderr:?}");
    assert!(!line.contains("panicked"), "{command:?}: {line}");
    line.to_owned()
}

/// As [`line_of`], and the line contains `fact`.
fn refuses(args: &[&str], status: i32, fact: &str) {
    let line = line_of(&mut bitnet(args), status);
    assert!(line.contains(fact), "{args:?}: {line}");
}

#[test]
fn options_out_of_range_are_wrong_use() {
    for (option, values) in [
        ("--max-tokens", &["0", "-1", "1.5", "many", "99999999999999999999999"][..]),
        ("--temperature", &["-1", "nan", "inf", "hot"]),
        ("--top-k", &["-1", "0.5"]),
        ("--top-p", &["0", "1.5", "-0.5", "nan"]),
        ("--min-p", &["-0.1", "1.1", "nan"]),
        ("--repetition-penalty", &["0", "-2", "inf"]),
        ("--typical-p", &["0", "1.5"]),
        ("--mirostat", &["1", "on"]),
        ("--dry-allowed-length", &["0", "-1"]),
        ("--logit-bias", &["5", "x=1", "5=nan", "5=inf"]),
        ("--regex", &["(", "a(?=b)"]),
        ("--json-schema", &["{", "{\"type\": \"whole\"}"]),
        ("--seed", &["-1", "18446744073709551616"]),
        ("--speculate", &["ngram", ""]),
        ("--draft", &[""]),
        ("--guesses", &["0", "-1", "many"]),
        ("--stop", &[""]),
        ("--threads", &["0", "-1", "two"]),
        ("--device", &["gpu", ""]),
    ] {
        for value in values {
            refuses(&["run", "-p", "x", option, value], USAGE, option);
        }
    }
    refuses(&["run", "-p", "x", "--threads", "5000"], USAGE, "threads must be between 1 and 1024, not 5000");
    refuses(&["run", "-p", "x", "-n", "0"], USAGE, "--max-tokens");
    for option in ["--window", "--max-windows"] {
        refuses(&["eval", "--text", "x", option, "0"], USAGE, option);
    }
}

#[test]
fn options_are_checked_before_the_model_is_loaded() {
    refuses(&["run", "/no/such/model", "-p", "x", "--top-p", "2"], USAGE, "--top-p");
    refuses(&["run", "/no/such/model", "-p", ""], USAGE, "the prompt is empty");
}

#[test]
fn guesses_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = folder.path().join("prompts.txt");
    std::fs::write(&prompts, "The\n").unwrap();
    let (prompts, results) = (prompts.to_str().unwrap(), folder.path().join("results.txt"));
    let results = results.to_str().unwrap();
    let micro = fixtures().join("micro");
    for command in [&["run", "-p", "x"][..], &["chat"], &["batch", "-i", prompts, "-o", results]] {
        let refuses =
            |args: &[&str], status: i32, fact: &str| refuses(&[command, args].concat(), status, fact);
        refuses(&["--guesses", "3"], USAGE, "--speculate <FROM>|--draft <MODEL>");
        refuses(&["--speculate", "lookup", "--draft", "x"], USAGE, "cannot be used with");
        refuses(&["--speculate", "ngram"], USAGE, "--speculate");
        refuses(&["--draft", "/no/such/model"], FAILURE, "/no/such/model");
        // For one prompt among many as well: nothing was begun.
        refuses(&["--draft", micro.to_str().unwrap()], USAGE, "--draft must be a model with the same tokens");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn wrong_use_is_said_in_one_line() {
    refuses(&["run"], USAGE, "<--prompt <TEXT>|--file <FILE>> (see --help)");
    refuses(&["run", "-p"], USAGE, "a value is required for '--prompt <TEXT>'");
    refuses(&["run", "-p", "x", "-f", "y"], USAGE, "cannot be used with");
    refuses(&["run", "-p", "x", "--max-token", "3"], USAGE, "(did you mean --max-tokens?)");
    refuses(&["run", "a", "b", "-p", "x"], USAGE, "unexpected argument 'b'");
    refuses(&["run", "", "-p", "x"], USAGE, "[MODEL]");
    refuses(&["eval"], USAGE, "--text <FILE>");
    refuses(&["rnu"], USAGE, "unrecognized subcommand 'rnu'");
    refuses(&["a\n\nUsage: b"], USAGE, "unrecognized subcommand 'a Usage: b' (see --help)");
}

#[test]
fn no_command_prints_the_help() {
    let output = bitnet(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(USAGE));
    assert!(String::from_utf8(output.stderr).unwrap().contains("Usage: bitnet <COMMAND>"));
}

#[test]
fn prompts_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    refuses(&["run", "-p", ""], USAGE, "the prompt is empty");
    refuses(&["run", "-f", &file("empty", b"")], USAGE, "the prompt is empty");
    refuses(&["run", "-f", "-"], USAGE, "the prompt is empty");
    let latin1 = file("latin1.txt", b"na\xefve");
    refuses(&["run", "-f", &latin1], FAILURE, &format!("{latin1}: not UTF-8 at byte 2"));
    refuses(&["eval", "--text", &latin1], FAILURE, &format!("{latin1}: not UTF-8 at byte 2"));
    let long = file("long.txt", "word ".repeat(3000).as_bytes());
    refuses(&["run", "-f", &long], FAILURE, "tokens; the context holds 2048");
    let absent = folder.path().join("absent").to_str().unwrap().to_owned();
    for args in [["run", "-f", &absent], ["eval", "--text", &absent]] {
        refuses(&args, FAILURE, &format!("{absent}: "));
    }
    refuses(&["run", "-f", folder.path().to_str().unwrap()], FAILURE, folder.path().to_str().unwrap());
    refuses(&["eval", "--text", &file("short", b"a")], FAILURE, "one window needs 513");
    refuses(&["eval", "--text", &long, "--window", "5000"], FAILURE, "--window is 5000; the context");
}

#[test]
fn models_that_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap();
    let text = fixtures().join("micro/config.json");
    let weights = fixtures().join("micro/model.safetensors");
    for (command, args) in
        [("run", &["-p", "x"][..]), ("inspect", &[]), ("eval", &["--text", text.to_str().unwrap()])]
    {
        let refuses = |model: &str, fact: &str| refuses(&[&[command, model], args].concat(), FAILURE, fact);
        for model in ["./no/such", "/no/such", "no such", "a\nb"] {
            refuses(model, "no such model");
        }
        refuses(empty, &format!("{empty}: has no config.json"));
        refuses(weights.to_str().unwrap(), "give the folder");
    }
}

#[test]
fn a_hub_id_that_is_not_in_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = bitnet(&["inspect", "nobody/nothing"]);
    command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", folder.path()).env_remove("HF_HUB_CACHE");
    let line = line_of(&mut command, FAILURE);
    assert!(line.contains("nobody/nothing") && line.contains("HF_HUB_OFFLINE"), "{line}");
}

#[test]
fn damaged_checkpoints_name_the_file() {
    let model = tempfile::tempdir().unwrap();
    for name in ["config.json", "generation_config.json", "tokenizer.json"] {
        std::fs::copy(fixtures().join("micro").join(name), model.path().join(name)).unwrap();
    }
    let model = model.path().to_str().unwrap();
    refuses(&["inspect", model], FAILURE, model);
    let weights = Path::new(model).join("model.safetensors");
    let hostile = std::fs::read_dir(fixtures().join("hostile")).unwrap();
    for path in hostile.map(|entry| entry.unwrap().path()) {
        std::fs::copy(path, &weights).unwrap();
        refuses(&["run", model, "-p", "x"], FAILURE, weights.to_str().unwrap());
    }
}

#[test]
fn an_instruction_set_that_is_not_there() {
    let foreign = if cfg!(target_arch = "x86_64") { "neon-dotprod" } else { "avx2" };
    for (isa, fact) in [("sse9", "unknown instruction set \"sse9\""), (foreign, "this CPU has no")] {
        for args in [&["run", "-p", "x"][..], &["doctor"], &["inspect"]] {
            let line = line_of(bitnet(args).env("BITNET_ISA", isa), FAILURE);
            assert!(line.contains("BITNET_ISA: ") && line.contains(fact), "{line}");
        }
    }
}

#[cfg(not(target_os = "macos"))]
#[test]
fn a_device_that_is_not_there() {
    for command in [&["run", "-p", "x"][..], &["bench"]] {
        refuses(
            &[command, &["--device", "metal"]].concat(),
            FAILURE,
            "no Metal device: Metal exists on macOS only",
        );
    }
    for (device, fact) in
        [("metal", "Metal exists on macOS only"), ("abacus", "unknown device \"BITNET_DEVICE=abacus\"")]
    {
        let line = line_of(bitnet(&["run", "-p", "x"]).env("BITNET_DEVICE", device), FAILURE);
        assert!(line.contains(fact), "{line}");
    }
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let line = line_of(bitnet(&["run", "-p"]).arg(std::ffi::OsStr::from_bytes(b"\xff")), USAGE);
    assert!(line.contains("invalid UTF-8"), "{line}");
    let line = line_of(bitnet(&["run", "-f"]).arg(std::ffi::OsStr::from_bytes(b"/no/\xff")), FAILURE);
    assert!(line.contains("/no/"), "{line}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    for args in [&["run", "-p", "x", "-n", "3"][..], &["run", "-p", "x", "-n", "3", "--json"], &["inspect"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let line = line_of(bitnet(args).stdout(full), FAILURE);
        assert!(line.contains("standard output: No space left"), "{line}");
    }
}
