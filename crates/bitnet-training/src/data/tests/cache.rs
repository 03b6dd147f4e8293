//! What tokens files have, and when they are made anew.

use bitnet_inference::Checkpoint;

use super::*;
use crate::Error;

/// Reads a file and says whether it was tokenized.
fn read(cache: &TokenCache<'_>, path: &Path) -> (TokenFile, bool) {
    let mut is_tokenized = false;
    let file = cache.open(path, &mut |done, all| {
        is_tokenized = true;
        assert!(done <= all);
        ControlFlow::Continue(())
    });
    (file.unwrap(), is_tokenized)
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<i32> {
    tokenizer.encode(text, false).unwrap().into_iter().map(|id| id as i32).collect()
}

const BEGIN: i32 = 2043;
const CLOSE: i32 = 2047;

#[test]
fn a_text_is_a_document_with_its_marks() {
    let files = Files::new();
    let text = "One line.\n\n  Another — with “signs”.\n";
    let file = files.read("a.txt", format!("\u{feff}{text}")).unwrap();
    let expected = [&[BEGIN], &ids(&files.tokenizer, text)[..], &[END as i32]].concat();
    assert_eq!((file.ids(), file.documents(), file.loss()), (&expected[..], &[0][..], None));
}

#[test]
fn each_line_of_jsonl_is_a_document_and_answers_alone_are_learnt() {
    let files = Files::new();
    let lines = r#"{"text": "plain", "id": 7}

{"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello!", "name": "x"}]}
{"text": ""}
"#;
    let file = files.read("a.jsonl", lines).unwrap();
    let plain = [&[BEGIN], &ids(&files.tokenizer, "plain")[..], &[END as i32]].concat();
    let asked = ids(&files.tokenizer, "<|begin_of_text|>User: Hi?<|eot_id|>Assistant: ");
    let answer = ids(&files.tokenizer, "Hello!<|eot_id|>");
    assert_eq!((asked[0], *answer.last().unwrap()), (BEGIN, CLOSE));
    assert_eq!(file.ids(), [&plain[..], &asked, &answer].concat());
    assert_eq!(file.documents(), [0, plain.len() as i64]);
    let learnt = [vec![1; plain.len()], vec![0; asked.len()], vec![1; answer.len()]].concat();
    assert_eq!(file.loss(), Some(&learnt[..]));
}

#[test]
fn files_are_tokenized_once() {
    let files = Files::new();
    let path = files.write("a.txt", "To be, or not to be");
    let (first, is_tokenized) = read(&files.cache(), &path);
    assert!(is_tokenized);
    let (second, is_tokenized) = read(&files.cache(), &path);
    assert!(!is_tokenized);
    assert_eq!((first.ids(), first.key()), (second.ids(), second.key()));
}

#[test]
fn what_has_changed_is_tokenized_again() {
    let files = Files::new();
    let path = files.write("a.txt", "To be, or not to be");
    let (first, _) = read(&files.cache(), &path);
    // Of the same length, and within the same second.
    files.write("a.txt", "To be, or not to me");
    let (other_text, is_tokenized) = read(&files.cache(), &path);
    assert!(is_tokenized);
    assert_ne!((first.ids(), first.key()), (other_text.ids(), other_text.key()));
    let (without_end, is_tokenized) = read(&TokenCache { end: None, ..files.cache() }, &path);
    assert!(is_tokenized);
    assert_eq!(without_end.ids(), &other_text.ids()[..other_text.ids().len() - 1]);
    let bytes = crate::byte_tokenizer::ByteTokenizer::files();
    let bytes = Checkpoint::from_memory("bytes", bytes, std::collections::BTreeMap::new());
    let tokenizer = Tokenizer::read(&bytes).unwrap().unwrap();
    let (of_bytes, is_tokenized) = read(&TokenCache { tokenizer: Some(&tokenizer), ..files.cache() }, &path);
    assert!(is_tokenized);
    assert_ne!(of_bytes.ids(), other_text.ids());
    // And the first is still there.
    files.write("a.txt", "To be, or not to be");
    assert!(!read(&files.cache(), &path).1);
}

#[test]
fn a_damaged_file_of_the_cache_is_made_anew() {
    let files = Files::new();
    let path = files.write("a.txt", "To be, or not to be");
    let (first, _) = read(&files.cache(), &path);
    let folder = files.cache().folder;
    let cached = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&cached).unwrap();
    // What is mapped must not be cut.
    fs::remove_file(&cached).unwrap();
    fs::write(&cached, &whole[..whole.len() - 5]).unwrap();
    let (again, is_tokenized) = read(&files.cache(), &path);
    assert!(is_tokenized);
    assert_eq!(again.ids(), first.ids());
    assert_eq!(fs::read(&cached).unwrap(), whole);
}

#[test]
fn what_the_cache_holds_can_be_given_as_data() {
    let files = Files::new();
    let lines = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
    let made = files.read("a.jsonl", lines).unwrap();
    let cached = fs::read_dir(files.cache().folder).unwrap().next().unwrap().unwrap().path();
    let bare = TokenCache { tokenizer: None, template: None, ..files.cache() };
    let (given, is_tokenized) = read(&bare, &cached);
    assert!(!is_tokenized);
    assert_eq!((given.ids(), given.documents(), given.loss()), (made.ids(), made.documents(), made.loss()));
}

#[test]
fn documents_of_an_array_end_with_the_end_token() {
    let files = Files::new();
    let file = files.array("a.npy", &[5, 6, 2044, 7, 2044, 8]);
    assert_eq!((file.ids(), file.documents()), (&[5, 6, 2044, 7, 2044, 8][..], &[0, 3, 5][..]));
}

#[test]
fn a_stop_leaves_nothing() {
    let files = Files::new();
    let path = files.write("a.txt", "To be");
    let stopped = files.cache().open(&path, &mut |_, _| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(stopped, Error::Inference(bitnet_inference::Error::Stopped { .. })), "{stopped}");
    assert!(!files.cache().folder.exists());
}
