//! Files built by hand, byte by byte, and what is said of those that lie.

use bitnet_core::{Buffer, ThreadPool};
use proptest::prelude::*;

use super::*;

/// A file in parts, so that a test can change one.
#[derive(Clone)]
struct File {
    magic: [u8; 4],
    version: u32,
    keys: Vec<(String, Vec<u8>)>,
    tensors: Vec<TensorEntry>,
    alignment: usize,
    data: usize,
}

#[derive(Clone)]
struct TensorEntry {
    name: String,
    dims: Vec<u64>,
    number: u32,
    offset: u64,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn value(kind: u32, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], bytes].concat()
}

fn list(kind: u32, len: u64, bytes: &[u8]) -> Vec<u8> {
    value(9, &[&kind.to_le_bytes()[..], &len.to_le_bytes(), bytes].concat())
}

fn entry(name: &str, dims: &[u64], number: u32, offset: u64) -> TensorEntry {
    TensorEntry { name: name.to_owned(), dims: dims.to_vec(), number, offset }
}

impl File {
    /// A matrix of two rows of 256 in every type, one behind the other.
    fn sound() -> Self {
        let mut file = Self {
            magic: *b"GGUF",
            version: 3,
            keys: vec![("general.architecture".to_owned(), value(8, &text("bitnet-b1.58")))],
            tensors: Vec::new(),
            alignment: 32,
            data: 0,
        };
        let sizes = [
            (0, 2048),
            (1, 1024),
            (30, 1024),
            (2, 288),
            (8, 544),
            (12, 288),
            (14, 420),
            (36, 160),
            (34, 108),
            (35, 132),
            (42, 144),
            (134, 108),
            (135, 136),
        ];
        for (number, size) in sizes {
            file.tensors.push(entry(&format!("of type {number}"), &[256, 2], number, file.data as u64));
            file.data += usize::next_multiple_of(size, 32);
        }
        file
    }

    fn key(mut self, key: &str, value: Vec<u8>) -> Self {
        self.keys.push((key.to_owned(), value));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            out.extend(text(key));
            out.extend(value);
        }
        for tensor in &self.tensors {
            out.extend(text(&tensor.name));
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            out.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
            out.extend(tensor.number.to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(self.alignment) + self.data, 0);
        out
    }
}

fn open(bytes: Vec<u8>) -> Result<Gguf> {
    Gguf::open(Path::new("x.gguf"), Buffer::from(bytes), &GgufOptions::default())
}

fn error(file: &File) -> String {
    open(file.bytes()).expect_err("a lie").to_string()
}

/// Reads every tensor to its last weight.
fn read_all(gguf: &Gguf) {
    let pool = ThreadPool::new(1).unwrap();
    let names: Vec<String> = gguf.contents().tensor_names().map(str::to_owned).collect();
    for name in names {
        match gguf.tensor(&name) {
            Ok(Some(Stored::Encoded(ternary))) => drop(ternary.decode(&pool)),
            Ok(Some(Stored::Plain(tensor))) => drop(tensor.to_f32()),
            Ok(None) => unreachable!("{name} is listed"),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }
    drop(gguf.vocabulary());
}

#[test]
fn every_type_is_found_where_it_is() {
    for version in [2, 3] {
        let file = File { version, ..File::sound() };
        let gguf = open(file.bytes()).unwrap();
        read_all(&gguf);
        assert_eq!(gguf.contents().tensor_names().count(), 13);
        let Some(Stored::Plain(tensor)) = gguf.tensor("of type 14").unwrap() else { panic!("floats") };
        assert_eq!((tensor.dims(), tensor.dtype()), (&[2, 256][..], DType::F16));
        let Some(Stored::Encoded(ternary)) = gguf.tensor("of type 36").unwrap() else { panic!("ternary") };
        assert_eq!((ternary.rows, ternary.cols, ternary.codec), (2, 256, Codec::I2S));
        assert!(gguf.tensor("of no type").unwrap().is_none());
    }
}

#[test]
fn values_of_every_type_are_read() {
    let texts = [text("a"), text("ß")].concat();
    let file = File::sound()
        .key("u8", value(0, &[200]))
        .key("i8", value(1, &[0xff]))
        .key("u16", value(2, &[1, 1]))
        .key("i16", value(3, &[0xfe, 0xff]))
        .key("u32", value(4, &7_u32.to_le_bytes()))
        .key("i32", value(5, &(-7_i32).to_le_bytes()))
        .key("f32", value(6, &0.5_f32.to_le_bytes()))
        .key("bool", value(7, &[1]))
        .key("texts", list(8, 2, &texts))
        .key("u64", value(10, &(1_u64 << 40).to_le_bytes()))
        .key("i64", value(11, &(-1_i64).to_le_bytes()))
        .key("f64", value(12, &0.25_f64.to_le_bytes()))
        .key("numbers", list(5, 2, &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]));
    let gguf = open(file.bytes()).unwrap();
    let metadata = gguf.contents().metadata();
    for (key, expected) in [
        ("u8", 200.0),
        ("i8", -1.0),
        ("u16", 257.0),
        ("i16", -2.0),
        ("u32", 7.0),
        ("i32", -7.0),
        ("f32", 0.5),
        ("u64", (1_u64 << 40) as f64),
        ("i64", -1.0),
        ("f64", 0.25),
    ] {
        assert_eq!(metadata.number(key).unwrap(), Some(expected), "{key}");
    }
    assert_eq!(metadata.flag("bool").unwrap(), Some(true));
    assert_eq!(metadata.texts("texts").unwrap().unwrap(), ["a", "ß"]);
    assert_eq!(metadata.numbers("numbers").unwrap().unwrap(), [1.0, -1.0]);
    assert_eq!(metadata.count("absent").unwrap(), None);
    let error = |result: Result<Option<usize>>| result.unwrap_err().to_string();
    let message = error(metadata.count("i64"));
    assert!(message.ends_with("expected a whole number of at least 0, got -1"), "{message}");
    assert!(error(metadata.count("texts")).ends_with("got a list of 2 values"));
    assert!(
        metadata.text("u8").is_err() && metadata.texts("numbers").is_err() && metadata.flag("u8").is_err()
    );
}

#[test]
fn another_alignment_is_kept_to() {
    let mut file =
        File { alignment: 256, ..File::sound() }.key("general.alignment", value(4, &256_u32.to_le_bytes()));
    let message = error(&file);
    assert!(message.contains("an offset that is a multiple of 256"), "{message}");
    file.tensors.truncate(1);
    open(file.bytes()).unwrap();
}

#[test]
fn lies_are_named() {
    let sound = File::sound;
    let with = |tensor: TensorEntry| File { tensors: vec![tensor], ..sound() };
    let key = |name: &str, value: Vec<u8>| sound().key(name, value);
    let huge = 1_u64 << 60;
    let said = [
        (File { magic: *b"GGML", ..sound() }, "the magic, byte 0: expected \"GGUF\", got \"GGML\""),
        (File { version: 1, ..sound() }, "the version, byte 4: expected 2 or 3, got 1, from before"),
        (File { version: 0x0300_0000, ..sound() }, "got a file for big-endian machines"),
        (File { version: 9, ..sound() }, "expected 2 or 3, got 9"),
        (key("k", value(13, &[])), "key \"k\", byte 85: expected a value type from 0 to 12, got 13"),
        (key("k", list(9, 0, &[])), "expected a list of plain values, got a list of lists"),
        (key("k", list(4, huge, &[])), "key \"k\", byte 101: expected 4611686018427387904 bytes, got the"),
        (key("k", list(8, huge, &[])), "key \"k\""),
        (key("k", value(8, &huge.to_le_bytes())), "expected 1152921504606846976 bytes, got the"),
        (key("general.architecture", value(0, &[0])), "expected every key once, got it a second time"),
        (key("general.alignment", value(4, &[3, 0, 0, 0])), "expected a power of two, got 3"),
        (key("general.alignment", value(4, &[0; 4])), "expected a power of two, got 0"),
        (key("split.count", value(2, &[2, 0])), "a file whose name ends in -00001-of-00002.gguf, got x.gguf"),
        (with(entry("t", &[], 0, 0)), "tensor \"t\", byte 85: expected 1 to 4 dimensions, got 0"),
        (with(entry("t", &[1; 5], 0, 0)), "expected 1 to 4 dimensions, got 5"),
        (with(entry("t", &[0], 0, 0)), "expected a dimension of at least 1, got 0"),
        (with(entry("t", &[u64::MAX], 0, 0)), "expected a dimension of at least 1, got 18446744073709551615"),
        (with(entry("t", &[huge, huge], 0, 0)), "expected whole blocks of 1 weights for F32, got shape"),
        (with(entry("t", &[100], 35, 0)), "expected whole blocks of 256 weights for TQ2_0, got shape [100]"),
        (with(entry("t", &[8], 0, 8)), "expected an offset that is a multiple of 32, got 8"),
        (with(entry("t", &[8], 0, 1 << 20)), "expected 32 bytes of data at offset 1048576, got"),
        (with(entry("t", &[1 << 40], 0, 0)), "expected 4398046511104 bytes of data at offset 0, got"),
        (with(entry("t", &[8], 3, 0)), "expected a type that is read, got type 3, Q4_1"),
        (with(entry("t", &[8], 38, 0)), "TL1, which is laid out for one machine: convert"),
        (with(entry("t", &[8], 39, 0)), "in a BitNet model TL2, which is laid out for one machine"),
        (with(entry("t", &[8], 77, 0)), "type 77, which no version of ggml has"),
        (with(entry("a\nb", &[8], 77, 0)), "tensor \"a\\nb\""),
        (with(entry(&"n".repeat(500), &[8], 77, 0)), "nnn\"..., byte"),
    ];
    for (file, expected) in said {
        let message = error(&file);
        assert!(message.starts_with("x.gguf: ") && message.contains(expected), "{message} / {expected}");
        assert!(!message.contains('\n') && message.len() < 400, "{message}");
    }
    let llama = File { keys: vec![("general.architecture".into(), value(8, &text("llama")))], ..sound() };
    let mxfp4 = File { tensors: vec![entry("t", &[8], 39, 0)], ..llama };
    assert!(error(&mxfp4).contains("type 39, MXFP4"));
}

#[test]
fn tensors_share_no_bytes_and_no_names() {
    let mut file = File::sound();
    file.tensors = vec![entry("a", &[64], 0, 0), entry("b", &[64], 0, 128)];
    let message = error(&file);
    assert!(message.contains("tensor \"b\"") && message.contains("behind \"a\", which ends at"), "{message}");
    file.tensors = vec![entry("a", &[8], 0, 0), entry("a", &[8], 0, 32)];
    assert!(error(&file).contains("expected every tensor once"));
}

#[test]
fn a_file_that_ends_anywhere_is_refused() {
    let bytes = File::sound().key("texts", list(8, 2, &[text("a"), text("b")].concat())).bytes();
    for end in 0..bytes.len() - 32 {
        let message = open(bytes[..end].to_vec()).expect_err("cut off").to_string();
        assert!(message.starts_with("x.gguf: ") && message.contains("expected "), "{message}");
    }
}

#[test]
fn blocks_are_no_linear() {
    let mut file = File::sound();
    file.tensors = vec![entry("blk.0.attn_q.weight", &[32], 2, 0)];
    let gguf = open(file.bytes()).unwrap();
    let message = gguf.tensor("model.layers.0.self_attn.q_proj.weight").unwrap_err().to_string();
    let expected = "expected ternary or plain float weights, got blocks of Q4_0";
    assert!(message.contains("\"blk.0.attn_q.weight\"") && message.contains(expected), "{message}");
}

#[test]
fn rope_factors_are_as_many_as_pairs_and_above_zero() {
    let mut file = File::sound();
    file.tensors = vec![entry("rope_freqs.weight", &[4], 0, 0)];
    let mut bytes = file.bytes();
    let data = bytes.len() - file.data;
    let read = |bytes: &[u8], pairs| open(bytes.to_vec()).unwrap().contents().rope_factors(pairs);
    let error = |bytes: &[u8], pairs| read(bytes, pairs).unwrap_err().to_string();
    let message = error(&bytes, 32);
    let expected = "expected a factor for each of 32 frequencies in F32, got F32 of shape [4]";
    assert!(
        message.starts_with("x.gguf: tensor \"rope_freqs.weight\"") && message.ends_with(expected),
        "{message}"
    );
    for (bad, said) in
        [(0.0_f32, "got 0 at"), (-1.0, "got -1 at"), (f32::NAN, "got NaN at"), (f32::INFINITY, "got inf at")]
    {
        for (index, factor) in [1.0, 1.0, bad, 8.0].into_iter().enumerate() {
            bytes[data + 4 * index..][..4].copy_from_slice(&factor.to_le_bytes());
        }
        let message = error(&bytes, 4);
        assert!(
            message.contains("expected finite factors above 0")
                && message.ends_with(&format!("{said} index 2")),
            "{message}"
        );
    }
    bytes[data + 8..][..4].copy_from_slice(&2.5_f32.to_le_bytes());
    assert_eq!(read(&bytes, 4).unwrap(), Some(vec![1.0, 1.0, 2.5, 8.0]));
    // No weights: a loader is not asked for them.
    assert_eq!(open(bytes).unwrap().contents().tensor_names().count(), 0);
    file.tensors = vec![entry("rope_freqs.weight", &[4], 1, 0)];
    assert!(error(&file.bytes(), 4).ends_with("got F16 of shape [4]"));
}

/// A small vocabulary behind the tensors' keys, so that its reader is reached too.
fn with_vocabulary() -> File {
    let tokens = ["<unk>", "<s>", "</s>", "a", "b", "ab", "<0x0A>"];
    let texts: Vec<u8> = tokens.iter().flat_map(|token| text(token)).collect();
    let kinds: Vec<u8> = [2_i32, 3, 3, 1, 1, 1, 6].iter().flat_map(|kind| kind.to_le_bytes()).collect();
    let scores: Vec<u8> = [0.0_f32; 7].iter().flat_map(|score| score.to_le_bytes()).collect();
    File::sound()
        .key("tokenizer.ggml.model", value(8, &text("gpt2")))
        .key("tokenizer.ggml.tokens", list(8, 7, &texts))
        .key("tokenizer.ggml.token_type", list(5, 7, &kinds))
        .key("tokenizer.ggml.scores", list(6, 7, &scores))
        .key("tokenizer.ggml.merges", list(8, 1, &text("a b")))
        .key("tokenizer.ggml.bos_token_id", value(4, &[1, 0, 0, 0]))
        .key("tokenizer.ggml.eos_token_id", value(4, &[2, 0, 0, 0]))
}

#[test]
fn a_vocabulary_is_read() {
    let gguf = open(with_vocabulary().bytes()).unwrap();
    let vocabulary = gguf.vocabulary().unwrap().unwrap();
    assert_eq!((vocabulary.bos, vocabulary.eos, &vocabulary.ends[..]), (Some(1), Some(2), &[2][..]));
    assert_eq!(vocabulary.merges, [("a", "b")]);
    // A file that names no pre-tokenizer has that of Llama 3, and says so.
    assert_eq!(vocabulary.pre_tokenizer, "llama-bpe");
    assert_eq!(gguf.decisions()[1].about, "pre-tokenizer");
}

/// A Gemma file with a norm of each kind.
fn gemma(weights: [f32; 2]) -> Gguf {
    let mut file = File { keys: Vec::new(), ..File::sound() };
    file.keys.push(("general.architecture".to_owned(), value(8, &text("gemma3"))));
    let names = ["output_norm.weight", "blk.0.attn_q_norm.weight", "blk.0.attn_q_norm_in.weight"];
    file.tensors = names.iter().zip(0..).map(|(name, at)| entry(name, &[2], 0, 32 * at)).collect();
    file.data = 96;
    let mut bytes = file.bytes();
    let start = bytes.len() - file.data;
    for at in [0, 32, 64] {
        bytes[start + at..][..4].copy_from_slice(&weights[0].to_le_bytes());
        bytes[start + at + 4..][..4].copy_from_slice(&weights[1].to_le_bytes());
    }
    open(bytes).unwrap()
}

fn floats(gguf: &Gguf, name: &str) -> Vec<f32> {
    let Some(Stored::Plain(tensor)) = gguf.tensor(name).unwrap() else { panic!("{name}: no floats") };
    tensor.to_f32().unwrap()
}

#[test]
fn norms_of_gemma_are_less_one_but_those_of_projections() {
    let gguf = gemma([1.25, 0.5]);
    assert_eq!(floats(&gguf, "model.norm.weight"), [0.25, -0.5]);
    assert_eq!(floats(&gguf, "model.layers.0.self_attn.q_norm.weight"), [0.25, -0.5]);
    assert_eq!(floats(&gguf, "model.layers.0.self_attn.q_proj.norm.weight"), [1.25, 0.5]);
}

proptest! {
    #[test]
    fn a_norm_of_gemma_comes_back_with_its_one(
        weight in prop_oneof![-2.0_f32..2.0, -1e-3_f32..1e-3, -1e3_f32..1e3],
        is_half in any::<bool>(),
    ) {
        let sum = weight + 1.0;
        let stored = if is_half && sum >= 0.0 { half::f16::from_f32(sum).to_f32() } else { sum };
        let read = floats(&gemma([stored, 1.0]), "model.norm.weight");
        prop_assert_eq!(read[0] + 1.0, stored);
    }

    #[test]
    fn no_change_of_bytes_panics(
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8),
        numbers in prop::collection::vec(
            (any::<prop::sample::Index>(), prop_oneof![any::<u64>(), 0..64_u64, Just(u64::MAX), Just(1 << 62)]),
            0..3,
        ),
        end in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = with_vocabulary().bytes();
        // Mostly in front, where the structure is.
        let front = bytes.len() - File::sound().data;
        for (index, (at, byte)) in changes.iter().enumerate() {
            let at = at.index(if index % 2 == 0 { front } else { bytes.len() });
            bytes[at] = *byte;
        }
        for (at, number) in &numbers {
            let at = at.index(front - 8);
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        if is_cut {
            bytes.truncate(end.index(bytes.len()));
        }
        match open(bytes) {
            Ok(gguf) => read_all(&gguf),
            Err(error) => {
                let message = error.to_string();
                prop_assert!(!message.contains('\n') && message.len() < 1000, "{}", message);
            }
        }
    }
}
