//! Bad input: one line each.

use super::*;
use crate::Error;

#[test]
fn bad_files_are_named_with_line_and_fact() {
    let files = Files::new();
    let good = r#"{"text": "a"}"#;
    let line = |bad: &str| format!("{good}\n{bad}\n{good}\n").into_bytes();
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("a.txt", b"".to_vec(), ": is empty"),
        ("a.txt", b"abc\xffd".to_vec(), ": is not UTF-8 at byte 3"),
        ("a.jsonl", b"".to_vec(), ": is empty"),
        ("a.jsonl", b"\n \n".to_vec(), ": has no documents"),
        ("a.jsonl", line("{\"text\": \"a\""), ", line 2: column 12: EOF while parsing an object"),
        ("a.jsonl", line("{\"txt\": \"a\"}"), ", line 2: has neither \"text\" nor \"messages\""),
        (
            "a.jsonl",
            line("{\"text\": \"\", \"messages\": []}"),
            ", line 2: has both \"text\" and \"messages\"",
        ),
        (
            "a.jsonl",
            line("{\"text\": 1}"),
            ", line 2: column 10: invalid type: integer `1`, expected a string",
        ),
        (
            "a.jsonl",
            line("{\"messages\": [{\"role\": \"user\"}]}"),
            ", line 2: column 30: missing field `content`",
        ),
        (
            "a.jsonl",
            line("{\"messages\": []}"),
            ", line 2: has no message of the role \"assistant\": there is nothing to learn",
        ),
        ("a.jsonl", [&line(good)[..], b"\"\xff\""].concat(), ", line 4: is not UTF-8 at byte 1"),
        ("a.npy", b"no".to_vec(), ": is no .npy file"),
    ];
    for (name, content, expected) in cases {
        let error = files.read(name, content).unwrap_err().to_string();
        assert_eq!(error, format!("{}{expected}", files.folder.path().join(name).display()));
    }
    assert!(!files.cache().folder.exists(), "nothing was written");
}

#[test]
fn a_file_that_is_not_there_is_an_io_error() {
    let files = Files::new();
    let missing = open(&files.cache(), &files.folder.path().join("no.txt")).unwrap_err();
    assert!(matches!(&missing, Error::Inference(bitnet_inference::Error::Io { .. })), "{missing}");
    let folder = open(&files.cache(), files.folder.path()).unwrap_err().to_string();
    assert!(folder.ends_with("is not a regular file"), "{folder}");
}

#[test]
fn a_token_outside_the_vocabulary_is_refused_wherever_it_comes_from() {
    let files = Files::new();
    let small = TokenCache { vocab_size: 7, ..files.cache() };
    files.array("a.npy", &[1, 6, 7]);
    let array = open(&small, &files.folder.path().join("a.npy")).unwrap_err();
    let is_it = |error: &Error, index, id| matches!(error, Error::TokenOutOfRange { index: i, id: got, vocab_size: 7, .. } if (*i, *got) == (index, id));
    assert!(is_it(&array, 2, 7), "{array}");
    let text = open(&small, &files.write("a.txt", "text")).unwrap_err();
    assert!(is_it(&text, 0, 2043), "{text}");
    // Also from the cache, with the name of the file it was made of.
    assert!(is_it(&open(&small, &files.folder.path().join("a.txt")).unwrap_err(), 0, 2043));
    assert!(text.to_string().ends_with("a.txt: token 0 is 2043, outside the vocabulary of 7"), "{text}");
    let negative = super::super::npy::tests::file("<i4", "(2,)", &[0, 0, 0, 0, 255, 255, 255, 255]);
    assert!(is_it(&open(&small, &files.write("b.npy", negative)).unwrap_err(), 1, -1));
}

#[test]
fn token_files_that_contradict_themselves_are_refused() {
    use bitnet_core::DType;
    use bitnet_inference::convert::safetensors::{Spec, write_file};
    let files = Files::new();
    let refuse = |tensors: &[(&str, DType, &[u8])]| {
        let path = files.folder.path().join("a.safetensors");
        let spec = |(name, dtype, data): &(&str, DType, &[u8])| Spec {
            name: (*name).to_owned(),
            dtype: *dtype,
            dims: vec![data.len() / dtype.size_bytes()],
        };
        let specs: Vec<Spec> = tensors.iter().map(spec).collect();
        write_file(&path, &specs, |index| Ok(tensors[index].2.into())).unwrap();
        let error = open(&files.cache(), &path).unwrap_err().to_string();
        error.strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
    };
    let ids: &[u8] = bytemuck::cast_slice(&[1_i32, 2, 3]);
    let starts = |starts: &'static [i64]| bytemuck::cast_slice::<i64, u8>(starts);
    let documents = "its documents do not begin at 0 and ascend to its last token";
    assert_eq!(refuse(&[("tokens", DType::I32, ids)]), "has no tensor ids");
    assert_eq!(refuse(&[("ids", DType::I32, &[])]), "has no tokens");
    let typed = "tensor ids must be i32 of one dimension, not f32 of shape [3]";
    assert_eq!(refuse(&[("ids", DType::F32, ids)]), typed);
    for bad in [&[][..], &[1], &[0, 0], &[0, 2, 1], &[0, 3]] {
        assert_eq!(refuse(&[("ids", DType::I32, ids), ("documents", DType::I64, starts(bad))]), documents);
    }
    for bad in [&[1, 1][..], &[0, 1, 2]] {
        let refused = refuse(&[("ids", DType::I32, ids), ("loss", DType::U8, bad)]);
        assert_eq!(refused, "its loss is not 0 or 1 for each token");
    }
}

#[test]
fn sequences_that_cannot_be_are_refused() {
    let files = Files::new();
    let refuse = |seq_len| {
        let file = files.array("a.npy", &[1, 2, 3]);
        Dataset::new(vec![file], &PackOptions { seq_len, context_length: 4, packing: Packing::Stream })
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refuse(3),
        "the data has 3 tokens, which make no sequence of 3: it needs one token more than that"
    );
    assert_eq!(refuse(5), "sequences of 5 tokens do not fit the context of the model, 4");
    assert_eq!(refuse(0), "seq_len must be at least 1, not 0");
}
