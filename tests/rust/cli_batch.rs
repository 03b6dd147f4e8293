//! `bitnet batch`: formats, order, rows that fail, and runs that are killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use super::{bitnet, run};

const PROMPTS: [&str; 3] = ["My fellow citizens", "It is\nthe \"time\", and \\so", "The"];

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file and returns its path.
    fn write(&self, name: &str, content: &str) -> String {
        fs::write(self.path(name), content).unwrap();
        self.name(name)
    }

    /// Writes prompts, a line each.
    fn prompts(&self, count: usize) -> String {
        let lines: Vec<String> =
            (0..count).map(|i| format!("{} {i}\n", ["The", "It is", "We"][i % 3])).collect();
        self.write("prompts.txt", &lines.concat())
    }
}

/// Runs a batch; returns its exit status and what it says.
fn batch(input: &str, output: &str, args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        bitnet(&[&["batch", "-i", input, "-o", output], args].concat()).output().unwrap();
    assert_eq!(stdout, b"");
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn succeeds(input: &str, output: &str, args: &[&str]) {
    let (status, stderr) = batch(input, output, args);
    assert_eq!(status, Some(0), "{stderr}");
    assert!(!Path::new(&format!("{output}.partial")).exists());
}

fn refuses(input: &str, output: &str, args: &[&str], status: i32, fact: &str) {
    let (got, stderr) = batch(input, output, args);
    assert_eq!((got, stderr.lines().count()), (Some(status), 1), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains(fact), "{stderr}");
}

fn rows(path: &str) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_format_gives_the_texts_of_run_in_order() {
    let folder = Folder::new();
    let texts =
        PROMPTS.map(|prompt| run(&["run", "-p", prompt, "-n", "9"]).0.trim_end_matches('\n').to_owned());
    let txt = folder.write("a.txt", "My fellow citizens\nIt is\\nthe \"time\", and \\\\so\r\nThe");
    let objects: Vec<String> = PROMPTS
        .iter()
        .enumerate()
        .map(|(id, prompt)| serde_json::json!({"id": id, "q": prompt, "tokens": "taken"}).to_string() + "\n")
        .collect();
    let jsonl = folder.write("a.jsonl", &objects.concat());
    let csv =
        folder.write("a.csv", "id,q\n0,My fellow citizens\n1,\"It is\nthe \"\"time\"\", and \\so\"\n2,The\n");
    let mut tables = Vec::new();
    for (name, input, options) in [
        ("txt", &txt, &["--batch-size", "1"][..]),
        ("jsonl", &jsonl, &["--field", "q", "--batch-size", "8"]),
        ("csv", &csv, &["--field", "q"]),
    ] {
        let output = |ending: &str| folder.name(&format!("from-{name}.{ending}"));
        let options = [options, &["-n", "9"]].concat();
        succeeds(input, &output("jsonl"), &options);
        for (index, row) in rows(&output("jsonl")).iter().enumerate() {
            assert_eq!((&row["index"], &row["prompt"]), (&index.into(), &PROMPTS[index].into()));
            assert_eq!(
                (&row["text"], &row["finish_reason"]),
                (&texts[index].as_str().into(), &"length".into())
            );
            assert_eq!((&row["tokens"], row.get("error")), (&9.into(), None), "{row}");
            let id = match name {
                "txt" => Value::Null,
                "jsonl" => index.into(),
                _ => index.to_string().into(),
            };
            assert_eq!(row["id"], id);
        }
        succeeds(input, &output("txt"), &options);
        let lines = texts.each_ref().map(|text| text.replace('\\', "\\\\").replace('\n', "\\n") + "\n");
        assert_eq!(fs::read_to_string(output("txt")).unwrap(), lines.concat());
        succeeds(input, &output("csv"), &options);
        tables.push(fs::read_to_string(output("csv")).unwrap());
    }
    assert!(tables[0].starts_with("index,prompt,text,finish_reason,tokens,error\n0,My fellow citizens,"));
    assert!(tables.iter().all(|table| *table == tables[0]), "{tables:?}");
}

#[test]
fn a_prompt_that_fails_is_a_row_and_the_rest_goes_on() {
    let folder = Folder::new();
    let long = "word ".repeat(3000);
    let input = folder.write("a.jsonl", &format!("\"The\"\n\"\"\n{{\"prompt\": \"{long}\"}}\n7\n\"It\"\n"));
    let output = folder.name("out.jsonl");
    let (status, stderr) = batch(&input, &output, &["-n", "2"]);
    let end = "error: 3 of 5 prompts failed, the first in row 1: the prompt is empty\n";
    assert!(status == Some(1) && stderr.ends_with(end) && stderr.lines().count() == 2, "{stderr}");
    let rows = rows(&output);
    for (row, fact) in rows[1..4].iter().zip(["is empty", "the context holds 2048", "line 4: neither a text"])
    {
        assert!(row["error"].as_str().unwrap().contains(fact) && row.get("text").is_none(), "{row}");
    }
    assert_eq!(
        (&rows[0]["tokens"], &rows[4]["prompt"], &rows[3]["prompt"]),
        (&2.into(), &"It".into(), &Value::Null)
    );
}

#[test]
fn rows_are_the_same_with_guesses() {
    let folder = Folder::new();
    let input = folder.prompts(12);
    let plain = folder.name("plain.jsonl");
    succeeds(&input, &plain, &SEEDED);
    let model = super::root().join("tests/fixtures/bitnet-tiny");
    for (name, source) in
        [("lookup", ["--speculate", "lookup"]), ("draft", ["--draft", model.to_str().unwrap()])]
    {
        let output = folder.name(&format!("{name}.jsonl"));
        let (status, stderr) = batch(&input, &output, &[&SEEDED[..], &source, &["--guesses", "3"]].concat());
        assert!(status == Some(0) && stderr.contains(" guesses right; "), "{stderr}");
        assert_eq!(rows(&output), rows(&plain));
    }
}

#[test]
fn questions_go_through_the_template() {
    let folder = Folder::new();
    let (input, output) = (folder.write("a.txt", "Who are you?\n"), folder.name("out.txt"));
    let text = |prompt: &str| run(&["run", "-n", "6", "-p", prompt]).0;
    succeeds(&input, &output, &["-n", "6", "--system", "Be brief."]);
    let prompt = "<|begin_of_text|>System: Be brief.<|eot_id|>User: Who are you?<|eot_id|>Assistant: ";
    assert_eq!(
        fs::read_to_string(&output).unwrap(),
        text(prompt).trim_end_matches('\n').replace('\n', "\\n") + "\n"
    );
}

/// Options of a run whose rows all differ.
const SEEDED: [&str; 6] = ["-n", "16", "--temperature", "0.9", "--seed", "5"];

/// Starts a run of one row after another, and kills it when some are there.
fn kill_in_the_middle(input: &str, output: &str) {
    let args = [&["batch", "-i", input, "-o", output, "--batch-size", "1"], &SEEDED[..]].concat();
    let mut child = bitnet(&args).spawn().unwrap();
    let partial = format!("{output}.partial");
    let lines = || fs::read_to_string(&partial).map_or(0, |text| text.matches('\n').count());
    while lines() < 4 {
        assert!(child.try_wait().unwrap().is_none(), "over before it was killed");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // SIGKILL, where there are signals.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!Path::new(output).exists());
}

#[test]
fn a_killed_run_goes_on_without_losing_or_repeating_a_row() {
    let folder = Folder::new();
    let input = folder.prompts(60);
    let (whole, killed) = (folder.name("whole.jsonl"), folder.name("killed.jsonl"));
    succeeds(&input, &whole, &[&SEEDED[..], &["--batch-size", "8"]].concat());
    kill_in_the_middle(&input, &killed);
    let partial = format!("{killed}.partial");
    refuses(&input, &killed, &SEEDED, 1, "--resume goes on, --force begins anew");
    let rows_before = fs::read(&partial).unwrap();
    let torn = |tail: &[u8]| fs::write(&partial, [&rows_before, tail].concat()).unwrap();
    // Guesses are nothing that rows depend on.
    let with_guesses = &["--speculate", "lookup"][..];
    for (tail, guesses) in [(&b"{\"index\":"[..], &[][..]), (b"\0\0\0\0\n", with_guesses)] {
        torn(tail);
        succeeds(&input, &killed, &[&SEEDED[..], guesses, &["--resume"]].concat());
        assert_eq!(fs::read(&killed).unwrap(), fs::read(&whole).unwrap());
    }
    let (status, stderr) = batch(&input, &killed, &[&SEEDED[..], &["--resume"]].concat());
    assert!(status == Some(0) && stderr.contains("nothing is left to do"), "{stderr}");
    refuses(&input, &killed, &SEEDED, 1, "is there already; --force replaces it");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_line_and_the_rows_so_far_stay() {
    let folder = Folder::new();
    let input = folder.prompts(60);
    let (whole, full) = (folder.name("whole.jsonl"), folder.name("full.jsonl"));
    succeeds(&input, &whole, &SEEDED);
    // A file beyond a limit is refused as one on a full disk is.
    let script = r#"trap '' XFSZ; ulimit -f 4; exec "$0" "$@""#;
    let args =
        [&["-c", script, env!("CARGO_BIN_EXE_bitnet"), "batch", "-i", &input, "-o", &full], &SEEDED[..]];
    let Output { status, stderr, .. } =
        std::process::Command::new("sh").args(args.concat()).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains("--resume goes on"), "{stderr}");
    assert!(fs::read(format!("{full}.partial")).unwrap().ends_with(b"\n"), "no torn line");
    succeeds(&input, &full, &[&SEEDED[..], &["--resume"]].concat());
    assert_eq!(fs::read(&full).unwrap(), fs::read(&whole).unwrap());
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_rows_that_are_done() {
    let folder = Folder::new();
    let (input, output) = (folder.prompts(200), folder.name("out.txt"));
    let child = bitnet(&["batch", "-i", &input, "-o", &output, "-n", "400"]).spawn().unwrap();
    while !folder.path("out.txt.partial").exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    super::interrupt(&child);
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), stderr.lines().count()), (Some(130), 1), "{stderr}");
    assert!(stderr.contains("the same command with --resume goes on there"), "{stderr}");
}

#[test]
fn a_run_goes_on_with_nothing_but_what_it_began_with() {
    let folder = Folder::new();
    let (input, output) = (folder.prompts(40), folder.name("out.csv"));
    kill_in_the_middle(&input, &output);
    let resume = [&SEEDED[..], &["--resume"]].concat();
    for (option, value) in
        [("--top-k", "9"), ("--field", "text"), ("--kv-cache", "f16"), ("--system", "Be brief.")]
    {
        let fact = "was made with another model or other options; --force begins anew";
        refuses(&input, &output, &[&resume[..], &[option, value]].concat(), 1, fact);
    }
    let other = folder.write("other.txt", &"The 0\nIt is one\n".repeat(20));
    refuses(&other, &output, &resume, 1, "row 1 is not the one that was begun with");
    let fewer = folder.write("fewer.txt", "The 0\nIt is 1\n");
    refuses(&fewer, &output, &resume, 1, "row 2 is not the one that was begun with");
    let partial = folder.path("out.csv.partial");
    let text = fs::read_to_string(&partial).unwrap();
    fs::write(&partial, text.replacen("\"index\":1,", "\"index\":7,", 1)).unwrap();
    refuses(&input, &output, &resume, 1, "is damaged in line 3");
    succeeds(&input, &output, &[&SEEDED[..], &["--force"]].concat());
    assert_eq!(
        fs::read_to_string(&output).unwrap().lines().next(),
        Some("index,prompt,text,finish_reason,tokens,error")
    );
}

#[test]
fn wrong_uses_are_refused() {
    let folder = Folder::new();
    let (input, output) = (folder.prompts(1), folder.name("out.jsonl"));
    let table = folder.write("a.csv", "q\nThe\n");
    refuses("prompts.json", &output, &[], 2, "must end in .txt, .jsonl or .csv");
    refuses(&input, "out", &[], 2, "must end in .txt, .jsonl or .csv");
    refuses(&input, &output, &["--batch-size", "0"], 2, "--batch-size");
    refuses(&input, &output, &["--top-p", "2"], 2, "--top-p");
    refuses(&input, &output, &["--resume", "--force"], 2, "cannot be used with");
    refuses(&folder.name("no.txt"), &output, &[], 1, "no.txt: ");
    refuses(&table, &output, &[], 1, "has no column \"prompt\"");
    refuses(&input, &folder.name("no/out.txt"), &[], 1, "no/out.txt.partial: ");
    refuses(&input, &output, &["/no/such/model"], 1, "no such model");
    assert!(!folder.path("out.jsonl.partial").exists(), "a model that is not there leaves nothing");
}
