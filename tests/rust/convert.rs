//! Every form to every other and back: the same codes, the same scales, bit for bit; and what is refused.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bitnet_core::{DType, Tensor, ThreadPool};
use bitnet_inference::checkpoint::Stored;
use bitnet_inference::convert::{ConvertOptions, Converted, HeadType, Target, convert, merge, to_master};
use bitnet_inference::{Checkpoint, Error, LoadOptions, LoadedModel, Message, Model};

/// Codes and the scale of every ternary matrix, by name.
type Ternary = BTreeMap<String, (Vec<i8>, f32)>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn tiny() -> PathBuf {
    root().join("tests/fixtures/bitnet-tiny")
}

/// bitnet-tiny, and the models of the shared folder where it exists.
fn sources() -> Vec<PathBuf> {
    let shared = root().join("../shared/models");
    let others = [
        "bitnet-tiny-bf16",
        "bitnet-mini",
        "bitnet-mini-bf16",
        "gguf/bitnet-tiny.tq1_0.gguf",
        "gguf/bitnet-tiny.i2_s.gguf",
    ];
    let mut sources = vec![tiny()];
    if shared.is_dir() {
        sources.extend(others.map(|name| shared.join(name)));
    } else {
        eprintln!("skipped all but bitnet-tiny: there is no {}", shared.display());
    }
    sources
}

fn pool() -> ThreadPool {
    ThreadPool::new(2).unwrap()
}

fn ternary(path: &Path) -> Ternary {
    let model = Model::load(&Checkpoint::open(path).unwrap(), &pool()).unwrap();
    model
        .ternary_linears()
        .map(|(name, linear)| (name, (linear.weight().codes(), linear.weight().one_scale().unwrap())))
        .collect()
}

fn try_convert(source: &Path, path: &Path, options: &ConvertOptions) -> Result<Converted, Error> {
    let mut last = 0;
    let converted = convert(&Checkpoint::open(source)?, path, options, &pool(), &mut |done, all| {
        assert!(last < done && done <= all, "{last} {done} {all}");
        last = done;
        ControlFlow::Continue(())
    })?;
    assert_eq!(last, converted.tensor_bytes);
    Ok(converted)
}

fn options(to: &str) -> ConvertOptions {
    ConvertOptions::new(to.parse().unwrap())
}

/// Names of all files in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn logits(path: &Path) -> Vec<u32> {
    let model = LoadedModel::open(path, &LoadOptions::default()).unwrap();
    let mut all = Vec::new();
    model
        .visit_logits(&[7, 500, 3, 42], 4, |_, logits: &[f32]| {
            all.extend(logits.iter().map(|logit| logit.to_bits()));
            Ok::<(), Error>(())
        })
        .unwrap();
    all
}

#[test]
fn every_form_keeps_codes_and_scales_there_and_back() {
    std::thread::scope(|scope| {
        for source in sources() {
            scope.spawn(move || keeps_codes_and_scales(&source));
        }
    });
}

fn keeps_codes_and_scales(source: &Path) {
    let expected = ternary(source);
    let folder = tempfile::tempdir().unwrap();
    for target in Target::ALL {
        let there = folder.path().join(target.name());
        let converted = match try_convert(source, &there, &ConvertOptions::new(target)) {
            // Scales of absmean are float32; two of the GGUF types have float16 only.
            Err(Error::Lossy { reason, .. }) => {
                assert!(source.ends_with("bitnet-tiny-bf16") || source.ends_with("bitnet-mini-bf16"));
                assert!(reason.contains("has a scale that float16 rounds"), "{reason}");
                assert!(target.name().starts_with("gguf-tq"), "{target}: {reason}");
                continue;
            }
            done => done.unwrap(),
        };
        assert_eq!(converted.ternary, expected.len());
        assert!(ternary(&there) == expected, "{} to {target}", source.display());
        for back in ["hf", "hf-bitlinear", "bf16", "gguf-i2_s"] {
            let again = folder.path().join(format!("{target}-{back}"));
            try_convert(&there, &again, &options(back)).unwrap();
            assert!(ternary(&again) == expected, "{} to {target} to {back}", source.display());
        }
    }
}

#[test]
fn logits_and_text_stay_the_same() {
    let expected = logits(&tiny());
    let folder = tempfile::tempdir().unwrap();
    let text = "It was 1812; \"the war\", she said, isn't over.\n\n  Fin é 日";
    let messages = [Message { role: "user".to_owned(), content: "Hello there".to_owned() }];
    let said = |path: &Path| {
        let model = LoadedModel::open(path, &LoadOptions::default()).unwrap();
        let ids = model.tokenizer().unwrap().encode(text, true).unwrap();
        (
            ids,
            model.apply_chat_template(&messages, true).unwrap(),
            model.config().bos,
            model.config().eos.clone(),
        )
    };
    for target in Target::ALL {
        let there = folder.path().join(target.name());
        try_convert(&tiny(), &there, &ConvertOptions::new(target)).unwrap();
        assert!(logits(&there) == expected, "{target}");
        assert_eq!(said(&there), said(&tiny()), "{target}");
        let back = folder.path().join(format!("{target}-back"));
        try_convert(&there, &back, &options("hf")).unwrap();
        assert!(logits(&back) == expected, "{target} and back");
        assert_eq!(said(&back), said(&tiny()), "{target} and back");
    }
}

#[test]
fn a_folder_carries_everything_over() {
    let source = tempfile::tempdir().unwrap();
    for name in names(&tiny()) {
        std::fs::copy(tiny().join(&name), source.path().join(&name)).unwrap();
    }
    let path = source.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["auto_map"] = serde_json::json!({"AutoConfig": "x.Y"});
    config["quantization_config"]["note"] = "kept".into();
    std::fs::write(&path, config.to_string()).unwrap();
    std::fs::write(source.path().join("special_tokens_map.json"), "{}").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("model");
    try_convert(source.path(), &there, &options("hf-bitlinear")).unwrap();
    assert_eq!(names(&there), names(source.path()));
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(there.join("config.json")).unwrap()).unwrap();
    config["quantization_config"]["linear_class"] = "bitlinear".into();
    assert_eq!(written, config);
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        assert_eq!(std::fs::read(there.join(name)).unwrap(), std::fs::read(tiny().join(name)).unwrap());
    }
}

#[test]
fn masters_are_carried_over_untouched() {
    let source = root().join("../shared/models/bitnet-mini-bf16");
    if !source.is_dir() {
        eprintln!("skipped: there is no {}", source.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("model");
    let one_file = ConvertOptions { shard_bytes: Some(usize::MAX), ..options("bf16") };
    assert_eq!(try_convert(&source, &there, &one_file).unwrap().files, 1);
    let (ours, theirs) = (Checkpoint::open(&there).unwrap(), Checkpoint::open(&source).unwrap());
    assert!(ours.tensor_names().eq(theirs.tensor_names()));
    for name in theirs.tensor_names() {
        let stored = |checkpoint: &Checkpoint| checkpoint.tensor(name).unwrap().unwrap();
        assert_eq!(stored(&ours).data()[..], stored(&theirs).data()[..], "{name}");
    }
}

#[test]
fn shards_are_written_by_size() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("model");
    let small = ConvertOptions { shard_bytes: Some(600_000), ..options("hf") };
    let converted = try_convert(&tiny(), &there, &small).unwrap();
    let shards = names(&there).into_iter().filter(|name| name.ends_with(".safetensors")).count();
    assert!(shards == converted.files && shards > 2, "{shards}");
    assert!(names(&there).contains(&"model.safetensors.index.json".to_owned()));
    assert!(logits(&there) == logits(&tiny()));
}

#[test]
fn gguf_files_are_split_by_size() {
    let folder = tempfile::tempdir().unwrap();
    let small = ConvertOptions { shard_bytes: Some(600_000), ..options("gguf-i2_s") };
    let converted = try_convert(&tiny(), &folder.path().join("model.gguf"), &small).unwrap();
    let parts = names(folder.path());
    let count = parts.len();
    assert!(converted.files == count && count > 2, "{parts:?}");
    assert_eq!(parts[1], format!("model-00002-of-{count:05}.gguf"));
    let first = folder.path().join(&parts[0]);
    assert!(logits(&first) == logits(&tiny()) && ternary(&first) == ternary(&tiny()));
    // One that is there already, and a conversion that stops, leave what there was.
    std::fs::remove_file(&first).unwrap();
    let error = try_convert(&tiny(), &folder.path().join("model.gguf"), &small).unwrap_err();
    assert!(error.to_string().ends_with("is there already; give a new name"), "{error}");
    assert_eq!(names(folder.path()), parts[1..]);
    let other = folder.path().join("other.gguf");
    let mut steps = 0;
    let stop = &mut |_, _| {
        steps += 1;
        if steps < 20 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let stopped = convert(&Checkpoint::open(&tiny()).unwrap(), &other, &small, &pool(), stop);
    assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
    assert_eq!(names(folder.path()), parts[1..]);
}

#[test]
fn the_head_is_rounded_when_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let as_f16 = folder.path().join("f16");
    let head = ConvertOptions { head: Some(HeadType::F16), ..options("hf") };
    assert_eq!(try_convert(&tiny(), &as_f16, &head).unwrap().embedding, "f16");
    let stored = Checkpoint::open(&as_f16).unwrap().tensor("model.embed_tokens.weight").unwrap().unwrap();
    assert_eq!(stored.type_name(), "f16");
    let bytes = ConvertOptions { head: Some(HeadType::Q8_0), ..options("hf") };
    let error = try_convert(&tiny(), &folder.path().join("q8"), &bytes).unwrap_err().to_string();
    assert_eq!(error, "head must be f16 or bf16 in a Hugging Face folder, not q8_0");
    assert_eq!(names(folder.path()), ["f16"]);
}

#[test]
fn rounded_scales_need_permission() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    // 0.1 as float32 is no float16.
    third_of_a_scale(&source);
    let there = folder.path().join("model.gguf");
    let error = try_convert(&source, &there, &options("gguf-tq2_0")).unwrap_err();
    assert!(matches!(error, Error::Lossy { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "{}: blk.0.attn_q.weight: has a scale that float16 rounds; lossy allows that",
            source.display()
        )
    );
    assert_eq!(names(folder.path()), ["source"]);
    let lossy = ConvertOptions { lossy: true, ..options("gguf-tq2_0") };
    let converted = try_convert(&source, &there, &lossy).unwrap();
    assert_eq!(converted.lost, ["blk.0.attn_q.weight: has a scale that float16 rounds"]);
    let (before, after) = (ternary(&source), ternary(&there));
    assert!(before.iter().all(|(name, (codes, _))| after[name].0 == *codes));
    // Every other form has room for it.
    for to in ["hf", "hf-bitlinear", "bf16", "gguf-i2_s"] {
        let there = folder.path().join(to);
        try_convert(&source, &there, &options(to)).unwrap();
        assert!(ternary(&there) == before, "{to}");
    }
}

/// bitnet-tiny with one scale in float32 that no shorter type has.
fn third_of_a_scale(path: &Path) {
    use safetensors::tensor::{Dtype, TensorView};
    std::fs::create_dir(path).unwrap();
    for name in names(&tiny()) {
        std::fs::copy(tiny().join(&name), path.join(&name)).unwrap();
    }
    let bytes = std::fs::read(tiny().join("model.safetensors")).unwrap();
    let scale = 0.1_f32.to_le_bytes();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.iter().map(|(name, view)| {
        let is_it = name == "model.layers.0.self_attn.q_proj.weight_scale";
        (name.to_owned(), if is_it { TensorView::new(Dtype::F32, vec![1], &scale).unwrap() } else { view })
    });
    safetensors::serialize_to_file(
        tensors.collect::<BTreeMap<_, _>>(),
        None,
        &path.join("model.safetensors"),
    )
    .unwrap();
}

#[test]
fn what_is_there_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("model.gguf");
    std::fs::write(&there, "mine").unwrap();
    for to in ["gguf-i2_s", "hf"] {
        let error = try_convert(&tiny(), &there, &options(to)).unwrap_err();
        assert!(error.to_string().ends_with("model.gguf: is there already; give a new name"), "{error}");
    }
    // Nor is the source.
    assert!(try_convert(&tiny(), &tiny(), &options("hf")).is_err());
    assert_eq!(std::fs::read(&there).unwrap(), b"mine");
    assert_eq!(names(folder.path()), ["model.gguf"]);
    let nowhere = try_convert(&tiny(), &folder.path().join("no/such/folder"), &options("hf")).unwrap_err();
    assert!(matches!(nowhere, Error::Io { .. }), "{nowhere}");
}

#[test]
fn a_conversion_that_is_stopped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for to in ["hf", "bf16", "gguf-tq1_0"] {
        let there = folder.path().join("model");
        let mut steps = 0;
        let stopped =
            convert(&Checkpoint::open(&tiny()).unwrap(), &there, &options(to), &pool(), &mut |_, _| {
                steps += 1;
                assert!(!there.exists());
                if steps < 5 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
        assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

/// A limit on the size of files stands for a full disk; only a process of its own may have one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("model");
    let limited = "ulimit -f 100; trap '' XFSZ; exec \"$0\" \"$@\"";
    let output = std::process::Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "converts_for_a_test", "--ignored", "--nocapture"])
        .env("CONVERT_TO", &there)
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("File too large"), "{said}");
    assert_eq!(names(folder.path()), [""; 0], "{said}");
}

/// What the test above runs.
#[test]
#[ignore = "part of another test"]
fn converts_for_a_test() {
    let Some(there) = std::env::var_os("CONVERT_TO") else { return };
    println!("{}", try_convert(&tiny(), Path::new(&there), &options("hf")).unwrap_err());
}

fn plain(checkpoint: &Checkpoint, name: &str) -> Tensor {
    match checkpoint.tensor(name).unwrap() {
        Some(Stored::Plain(tensor)) => tensor,
        other => panic!("{name}: {other:?}"),
    }
}

/// The master of bitnet-tiny with other numbers, `f(number, index)`, and its tensor `left_out` missing.
fn master(f: impl Fn(f32, usize) -> f32, left_out: Option<&str>) -> Checkpoint {
    let master = to_master(&Checkpoint::open(&tiny()).unwrap(), &pool()).unwrap();
    let mut tensors = BTreeMap::new();
    for name in master.tensor_names().filter(|name| Some(*name) != left_out) {
        let tensor = plain(&master, name);
        let values: Vec<f32> =
            tensor.to_f32().unwrap().into_iter().enumerate().map(|(i, value)| f(value, i)).collect();
        let changed = Tensor::from_vec(values, tensor.dims()).unwrap().to_dtype(tensor.dtype()).unwrap();
        tensors.insert(name.to_owned(), changed);
    }
    let names = ["config.json", "tokenizer.json"];
    let files = names.map(|name| (name.to_owned(), master.file(name).unwrap().unwrap()));
    Checkpoint::from_memory("master", files.into(), tensors)
}

#[test]
fn models_merge_into_their_weighted_mean() {
    let shift = |value: f32, i: usize| value + ((i % 7) as f32 - 3.0) * 0.01;
    let models = [master(|value, _| value, None), master(shift, None)];
    let merged = merge(&models, Some(&[1.0, 3.0]), &pool()).unwrap();
    let names: Vec<&str> = merged.tensor_names().collect();
    assert_eq!(names, models[0].tensor_names().collect::<Vec<_>>());
    for name in names {
        let [a, b] = models.each_ref().map(|model| plain(model, name).to_f32().unwrap());
        let mean: Vec<f32> = a.iter().zip(&b).map(|(a, b)| 0.25 * a + 0.75 * b).collect();
        let dtype = plain(&models[0], name).dtype();
        assert_ne!(dtype, DType::U8);
        let len = mean.len();
        let expected = Tensor::from_vec(mean, [len]).unwrap().to_dtype(dtype).unwrap();
        assert_eq!(plain(&merged, name).dtype(), dtype);
        assert_eq!(plain(&merged, name).to_f32().unwrap(), expected.to_f32().unwrap(), "{name}");
    }
    let same = merge(&[master(shift, None), master(shift, None)], None, &pool()).unwrap();
    assert!(same.tensor_names().all(|name| **plain(&same, name).data() == **plain(&models[1], name).data()));
}

#[test]
fn what_has_no_mean_is_refused() {
    let packed = Checkpoint::open(&tiny()).unwrap();
    let whole = || master(|value, _| value, None);
    let refused = |models: &[Checkpoint]| merge(models, None, &pool()).unwrap_err().to_string();
    assert!(refused(&[whole(), packed]).contains("merge the float masters"));
    assert!(refused(&[whole()]).contains("at least two"));
    let missing = "model.norm.weight";
    let error = refused(&[whole(), master(|value, _| value, Some(missing))]);
    assert!(error.contains(missing), "{error}");
}
