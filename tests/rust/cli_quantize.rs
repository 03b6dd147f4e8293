//! `bitnet quantize` as a user runs it.

mod command;

use std::path::Path;

use bitnet_inference::Checkpoint;
use bitnet_inference::checkpoint::Stored;
use command::{bitnet, printed, tiny};
use serde_json::Value;

const USAGE: i32 = 2;
const FAILURE: i32 = 1;

/// A folder with a float master of the tiny model.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        printed(&["convert", &tiny(), &folder.path("master"), "--to", "bf16", "--threads", "2"]);
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, content: &str) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }
}

#[test]
fn a_master_is_measured_and_reported() {
    let folder = Folder::new();
    let (master, page, plot) = (folder.path("master"), folder.path("out.html"), folder.path("out.PNG"));
    let text = folder.file("text.txt", "The old man walked down to the river in the morning.");
    let report =
        printed(&["quantize", &master, "--text", &text, "--report", &page, "--report", &plot, "-t", "2"]);
    assert!(report.starts_with(" #  linear") && report.contains("\n28  layers."), "{report}");
    for fact in ["perplexity  ", "KL  ", "top-1  ", "recommended  ", "weights made ternary by absmean"] {
        assert!(report.contains(fact), "{fact}: {report}");
    }
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    let first = report.lines().nth(1).unwrap().split_whitespace().nth(1).unwrap();
    assert!(page.contains(first), "{first}");
    assert!(std::fs::read(plot).unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
    // Beside the master, the text and the two reports there is nothing left.
    assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 4);
}

#[test]
fn json_has_all_of_it() {
    let folder = Folder::new();
    let args = ["quantize", &tiny(), "--reference", &folder.path("master"), "--json", "--tokens", "20"];
    let more = ["--precisions", "sign,int2,float", "--min-sqnr", "3", "-t", "1"];
    let report: Value = serde_json::from_str(&printed(&[&args[..], &more].concat())).unwrap();
    assert_eq!((&report["tokens"], &report["sampled_tokens"]), (&20.into(), &20.into()));
    let layers = report["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 28);
    for layer in layers {
        let errors = layer["errors"].as_object().unwrap();
        assert_eq!(errors.len(), 3, "{layer}");
        // No error at all has no signal to noise.
        assert!(errors["float"]["sqnr_db"].is_null() && errors["float"]["mse"] == 0.0, "{layer}");
        assert!(layer["quantized"]["sqnr_db"].is_f64() && layer["recommended"].is_string(), "{layer}");
        let input = &report["inputs"][layer["input"].as_u64().unwrap() as usize];
        assert!(input["linears"].as_array().unwrap().contains(&layer["name"]), "{layer}");
        let bins = input["histogram"].as_array().unwrap();
        let count: u64 = bins.iter().map(|bin| bin[2].as_u64().unwrap()).sum();
        assert_eq!(Some(count), input["count"].as_u64());
        assert_eq!(count, 20 * layer["cols"].as_u64().unwrap());
    }
}

#[test]
fn refusals_are_one_line_and_leave_nothing() {
    let folder = Folder::new();
    let (master, empty) = (folder.path("master"), folder.file("empty.txt", ""));
    let there = folder.file("there.html", "mine");
    let (absent, nowhere) = (folder.path("absent.txt"), folder.path("no/out.html"));
    let (pdf, plain, out) = (folder.path("out.pdf"), folder.path("out"), folder.path("out.html"));
    for (args, status, fact) in [
        (&["quantize"][..], USAGE, "<MODEL>"),
        (&["quantize", "/no/such/model"], FAILURE, "no such model"),
        (&["quantize", &tiny(), "--report", &out], FAILURE, "its weights are packed, there are no floats"),
        (&["quantize", &master, "--reference", "/no/such/model"], FAILURE, "no such model"),
        (&["quantize", &master, "--reference", &tiny()], FAILURE, "as --reference"),
        (&["quantize", &master, "--text", &absent], FAILURE, &absent),
        (&["quantize", &master, "--text", &empty, "--report", &out], FAILURE, "the text has 1"),
        (&["quantize", &master, "--tokens", "0"], USAGE, "--tokens"),
        (
            &["quantize", &master, "--report", &pdf],
            USAGE,
            "--report must be a name that ends in .html or .png",
        ),
        (
            &["quantize", &master, "--report", &plain],
            USAGE,
            "--report must be a name that ends in .html or .png",
        ),
        (&["quantize", &master, "--report", &there], FAILURE, "is there already; give a new name"),
        (&["quantize", &master, "--report", &nowhere], FAILURE, "no: is no folder to write a report to"),
        (&["quantize", &master, "--precisions", "int5"], USAGE, "int5"),
        (&["quantize", &master, "--precisions", "int4,int4"], USAGE, "--precisions must be each named once"),
        (&["quantize", &master, "--min-sqnr", "nan"], USAGE, "--min-sqnr <DB>': a number is needed"),
        (&["quantize", &master, "-t", "0"], USAGE, "--threads"),
    ] {
        let output = bitnet(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
        assert!(
            stderr.starts_with("error: ") && stderr.lines().count() == 1 && stderr.contains(fact),
            "{args:?}: {stderr}"
        );
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    assert_eq!(std::fs::read(there).unwrap(), b"mine");
    assert!(!Path::new(&out).exists());
}

/// Type, shape and bytes of every tensor of a folder, by name.
fn tensors(path: &Path) -> Vec<(String, String, Vec<u8>)> {
    let checkpoint = Checkpoint::open(path).unwrap();
    let tensor = |name: &str| match checkpoint.tensor(name).unwrap() {
        Some(Stored::Plain(tensor)) => {
            let kind = format!("{} {:?}", tensor.dtype(), tensor.dims());
            (name.to_owned(), kind, tensor.data().to_vec())
        }
        _ => panic!("{name} is no plain tensor"),
    };
    checkpoint.tensor_names().map(tensor).collect()
}

#[test]
fn a_master_is_packed_as_it_was_published() {
    let folder = Folder::new();
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    let mut pairs = vec![(folder.path("master"), tiny())];
    if shared.is_dir() {
        let path = |name: String| shared.join(name).to_str().unwrap().to_owned();
        pairs.extend(
            ["tiny", "mini"].map(|of| (path(format!("bitnet-{of}-bf16")), path(format!("bitnet-{of}")))),
        );
    } else {
        eprintln!("skipped the masters of the shared folder: there is no {}", shared.display());
    }
    for (index, (master, published)) in pairs.iter().enumerate() {
        let packed = folder.path(&format!("packed-{index}"));
        let said = printed(&["quantize", master, "-o", &packed, "-t", "2"]);
        assert!(said.contains("form       hf") && said.contains("rounded to bf16"), "{said}");
        assert!(tensors(packed.as_ref()) == tensors(published.as_ref()), "{master}");
    }
    let json = printed(&["quantize", &folder.path("master"), "-o", &folder.path("other"), "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["form"], &json["ternary"]), (&"hf".into(), &28.into()));
}

#[test]
fn what_is_packed_already_is_not_packed_again() {
    let folder = Folder::new();
    let output = bitnet(&["quantize", &tiny(), "-o", &folder.path("packed")]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), error.lines().count()), (Some(FAILURE), 1), "{error}");
    assert!(error.contains("its weights are ternary already"), "{error}");
    assert!(!Path::new(&folder.path("packed")).exists());
}
