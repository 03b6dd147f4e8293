//! `bitnet chat` on a pipe: a line is a question or a command.

use std::io::{Read, Write};
use std::process::{Child, Output, Stdio};

use super::{bitnet, root, run};

fn start(args: &[&str]) -> Child {
    bitnet(&[&["chat"], args].concat()).stdin(Stdio::piped()).spawn().unwrap()
}

/// What a chat that ends well prints to stdout and to stderr.
fn chat(args: &[&str], lines: &[&str]) -> (String, String) {
    let mut child = start(args);
    child.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{args:?}: {status}, {stderr}");
    (stdout, stderr)
}

#[test]
fn answers_are_those_to_the_whole_conversation() {
    let ask = |text: &str| run(&["run", "-p", text, "-n", "12"]).0;
    let first = "<|begin_of_text|>System: Be brief.<|eot_id|>User: Who are you?<|eot_id|>Assistant: ";
    let answer = ask(first);
    let second = format!("{first}{}<|eot_id|>User: Go on.<|eot_id|>Assistant: ", answer.trim());
    let expected = answer + &ask(&second);
    let (stdout, stderr) = chat(
        &["--system", "Be brief.", "-n", "12"],
        &["Who are you?", "", "  Go on.  ", "/exit", "this is read by nobody"],
    );
    assert_eq!((stdout, stderr.as_str()), (expected, ""));
}

#[test]
fn answers_are_the_same_with_guesses() {
    let model = root().join("tests/fixtures/bitnet-tiny");
    let lines = ["Say it again and again and again.", "Again.", "/stats"];
    let answers = |args: &[&str]| {
        let (stdout, stderr) =
            chat(&[&["-n", "24", "--temperature", "0.7", "--seed", "3"], args].concat(), &lines);
        assert_eq!(stderr, "");
        let (answers, statistics) = stdout.split_once("answers   2, ").unwrap();
        (answers.to_owned(), statistics.lines().find(|line| line.starts_with("guesses ")).map(str::to_owned))
    };
    let (expected, none) = answers(&[]);
    assert_eq!(none, None);
    for source in [["--speculate", "lookup"], ["--draft", model.to_str().unwrap()]] {
        let (got, guesses) = answers(&[&source[..], &["--guesses", "3"]].concat());
        assert_eq!(got, expected);
        assert!(guesses.is_some_and(|line| line.ends_with(" right")), "{source:?}");
    }
}

#[test]
fn what_cannot_be_done_is_a_line_and_the_chat_goes_on() {
    let lines = [
        "/halp",
        "/set heat 1",
        "/set temperature -1",
        "/set top_k",
        "/load /no/such/file",
        "/save /no/such/folder/file",
        "/clear now",
        "/set seed 7",
        "/set",
    ];
    let long = "word ".repeat(70);
    let (stdout, stderr) = chat(&["--context", "64"], &[&lines[..], &[long.as_str()]].concat());
    let facts = [
        "there is no /halp; /help lists the commands",
        "there is no setting heat; /set shows all",
        "temperature must be a finite number of at least 0, not -1",
        "/set top_k needs a value",
        "/no/such/file: ",
        "/no/such/folder/file: ",
        "/clear takes nothing behind it",
        "the context holds 64",
    ];
    assert_eq!(stderr.lines().count(), facts.len(), "{stderr}");
    for (line, fact) in stderr.lines().zip(facts) {
        assert!(line.starts_with("error: ") && line.contains(fact), "{line}");
    }
    assert!(
        stdout.contains("temperature         0\n") && stdout.contains("seed                7\n"),
        "{stdout}"
    );
}

#[test]
fn a_saved_chat_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, bad) = (path("chat.json"), path("bad.json"));
    let save = format!("/save {file}");
    let settings = "/set max_tokens 9";
    let (answer, _) = chat(&[], &["/system Be brief.", settings, "Who are you?", &save]);
    let (load, load_bad) = (format!("/load {file}"), format!("/load {bad}"));
    std::fs::write(&bad, r#"{"messages": [{"role": "user"}]}"#).unwrap();
    let (stdout, stderr) =
        chat(&[], &[load.as_str(), "/history", "/set", &load_bad, "Go on.", "/stats", "/clear", "/history"]);
    let history = format!("system: Be brief.\nuser: Who are you?\nassistant: {answer}");
    assert!(stdout.starts_with(&history), "{stdout:?} {history:?}");
    assert!(stdout.contains("max_tokens          9\n"), "{stdout}");
    assert!(stderr.contains("bad.json: is no saved chat: ") && stderr.lines().count() == 1, "{stderr}");
    assert!(stdout.contains("answers   1, ") && stdout.contains("context   "), "{stdout}");
    assert!(stdout.ends_with(" messages\nsystem: Be brief.\n"), "{stdout}");
    let saved: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(
        (&saved["messages"][1]["content"], &saved["settings"]["max_tokens"]),
        (&"Who are you?".into(), &9.into())
    );
}

#[test]
fn a_model_without_a_template_is_sent_to_run() {
    let model = root().join("tests/fixtures/micro");
    let Output { status, stdout, stderr } = bitnet(&["chat", model.to_str().unwrap()]).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), stdout.as_slice()), (Some(1), &b""[..]), "{stderr}");
    assert!(stderr.ends_with("has no chat template; `bitnet run` continues a text\n"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_answer_and_not_the_chat() {
    let mut child = bitnet(&["chat", "-n", "2000", "--temperature", "2", "--seed", "1"])
        .env("BITNET_ISA", "scalar")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"Tell me a long story.\n").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
    super::interrupt(&child);
    stdin.write_all(b"/history\n/stats\n").unwrap();
    drop(stdin);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&stdout);
    assert_eq!((status.code(), stderr.as_slice()), (Some(0), &b""[..]), "{stdout}");
    assert!(stdout.contains("\nuser: Tell me a long story.\nassistant: "), "{stdout}");
    assert!(stdout.contains("answers   1, "), "{stdout}");
}
