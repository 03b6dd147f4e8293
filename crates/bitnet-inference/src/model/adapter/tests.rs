//! Adapters of the embedded model.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bitnet_core::{DType, Tensor, ThreadPool};
use tempfile::TempDir;

use super::config::CONFIG;
use super::*;
use crate::backend::conformance::{Subject, check};
use crate::backend::cpu::{CpuBackend, CpuOptions};
use crate::backend::hybrid::{HybridBackend, Part};
use crate::backend::{Backend, KvType};
use crate::{Checkpoint, LoadOptions, LoadedModel};

const IDS: [u32; 9] = [2043, 555, 695, 473, 902, 289, 433, 17, 5];

const RANK: usize = 3;

fn model() -> Model {
    Model::load(&Checkpoint::embedded().unwrap(), &ThreadPool::new(1).unwrap()).unwrap()
}

fn config() -> AdapterConfig {
    AdapterConfig { rank: RANK, alpha: 6.0, is_rank_stabilized: false, base_model: "tiny".to_owned() }
}

/// `A` and `B` of all linears whose names `is_adapted`; `B` counts `size` times.
fn tensors(size: f32, is_adapted: impl Fn(&str) -> bool) -> BTreeMap<String, Tensor> {
    let mut tensors = BTreeMap::new();
    for (index, (name, linear)) in model().named_linears().enumerate() {
        if is_adapted(&name) {
            let wave = |len: usize, size: f32| {
                (0..len).map(|i| ((i * i + index) as f32 * 0.7).sin() * size).collect::<Vec<f32>>()
            };
            let [a, b] = tensor_names(&name);
            let (rows, cols) = (linear.rows(), linear.cols());
            tensors.insert(a, Tensor::from_vec(wave(RANK * cols, 0.05), [RANK, cols]).unwrap());
            tensors.insert(b, Tensor::from_vec(wave(rows * RANK, size), [rows, RANK]).unwrap());
        }
    }
    tensors
}

/// A folder with an adapter in it.
struct Folder(TempDir);

impl Folder {
    fn new(tensors: &BTreeMap<String, Tensor>) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        write(&folder.path(), &config(), tensors).unwrap();
        folder
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("adapter")
    }

    fn logits(&self) -> Vec<f32> {
        let options = LoadOptions { adapter: Some(self.path()), ..LoadOptions::default() };
        logits(&LoadedModel::embedded(&options).unwrap())
    }

    /// What opening it says, which is one line.
    fn refused(&self) -> String {
        refused(Adapter::open(&self.path()))
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn logits(model: &LoadedModel) -> Vec<f32> {
    let mut all = Vec::new();
    let keep = |_: usize, logits: &[f32]| {
        all.extend_from_slice(logits);
        Ok::<(), Error>(())
    };
    model.visit_logits(&IDS, 4, keep).unwrap();
    all
}

#[test]
fn what_is_written_is_read_and_its_config_is_that_of_peft() {
    let tensors = tensors(0.1, |name| name.ends_with("q_proj") || name.ends_with("down_proj"));
    let folder = Folder::new(&tensors);
    let adapter = Adapter::open(&folder.path()).unwrap();
    assert_eq!(adapter.config, config());
    let summary = adapter.summary();
    assert_eq!((summary.rank, summary.alpha, summary.linears), (RANK, 6.0, 8));
    assert_eq!(summary.parameters, tensors.values().map(Tensor::len).sum::<usize>());
    assert_eq!(summary.bytes, 4 * summary.parameters);
    assert!(adapter.of(0, 0).is_some() && adapter.of(0, 1).is_none() && adapter.of(4, 0).is_none());
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join(CONFIG)).unwrap()).unwrap();
    assert_eq!(json["target_modules"], serde_json::json!(["down_proj", "q_proj"]));
    assert_eq!((&json["r"], &json["lora_alpha"]), (&3.into(), &6.into()));
    // What is there is not written over.
    assert!(write(&folder.path(), &config(), &tensors).is_err());
}

#[test]
fn an_adapter_of_zeros_changes_no_bit_and_another_does() {
    let plain = logits(&LoadedModel::embedded(&LoadOptions::default()).unwrap());
    assert_eq!(Folder::new(&tensors(0.0, |_| true)).logits(), plain);
    for part in ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"] {
        let adapted = Folder::new(&tensors(0.1, |name| name.ends_with(part))).logits();
        assert_ne!(adapted, plain, "{part}");
    }
}

/// In particular, bits do not depend on what shares a batch.
#[test]
fn the_contract_of_backends_is_kept() {
    for is_adapted in [|_: &str| true, |name: &str| name.contains("self_attn")] {
        let mut model = model();
        model.set_adapter(Adapter::open(&Folder::new(&tensors(0.1, is_adapted)).path()).unwrap()).unwrap();
        let pool = Arc::new(ThreadPool::new(2).unwrap());
        let backend = CpuBackend::new(model, pool, &CpuOptions::default()).unwrap();
        check(&backend, &Subject::exact(2048)).assert_passed();
    }
}

#[test]
fn parts_of_a_model_have_their_parts_of_the_adapter() {
    let folder = Folder::new(&tensors(0.1, |_| true));
    let options = LoadOptions { adapter: Some(folder.path()), ..LoadOptions::default() };
    let prepare = |model: Model, pool: Arc<ThreadPool>| {
        let parts = model.split(&[1, 3]).into_iter().map(|part| {
            let layers = part.layers.clone();
            let backend = CpuBackend::new(part, Arc::clone(&pool), &CpuOptions::default())?;
            Ok(Part { layers, backend: Arc::new(backend) as Arc<dyn Backend> })
        });
        Ok(Arc::new(HybridBackend::new(parts.collect::<Result<_>>()?)?) as Arc<dyn Backend>)
    };
    let checkpoint = Checkpoint::embedded().unwrap();
    let split = LoadedModel::from_checkpoint_on(&checkpoint, &options, prepare).unwrap();
    assert_eq!(logits(&split), folder.logits());
    assert_eq!(split.backend().kv_type(), KvType::F32);
}

#[test]
fn factors_are_those_of_peft() {
    assert_eq!(config().factor(), 2.0);
    assert_eq!(AdapterConfig { rank: 16, alpha: 32.0, is_rank_stabilized: true, ..config() }.factor(), 8.0);
}

#[test]
fn configs_of_what_does_not_run_are_refused() {
    let folder = Folder::new(&tensors(0.1, |_| true));
    let path = folder.path().join(CONFIG);
    let good: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value, fact) in [
        ("peft_type", serde_json::json!("IA3"), "peft_type is IA3"),
        ("use_dora", true.into(), "DoRA does not run"),
        ("fan_in_fan_out", true.into(), "fan_in_fan_out is true"),
        ("bias", "all".into(), "bias is all"),
        ("modules_to_save", serde_json::json!(["lm_head"]), "modules_to_save are lm_head"),
        ("rank_pattern", serde_json::json!({"q_proj": 2}), "rank_pattern has entries"),
        ("alpha_pattern", serde_json::json!({"q_proj": 2}), "alpha_pattern has entries"),
        ("r", 0.into(), "r is 0"),
        ("r", (-1).into(), "invalid value"),
        ("r", 4.into(), "has rank 3; adapter_config.json says r = 4"),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        fs::write(&path, bad.to_string()).unwrap();
        let error = folder.refused();
        assert!(error.contains(fact) && error.contains("adapter"), "{error}");
    }
    fs::write(&path, "{").unwrap();
    assert!(folder.refused().contains(CONFIG));
    fs::remove_file(&path).unwrap();
    assert!(folder.refused().ends_with("is no adapter: it has no adapter_config.json"));
    assert!(refused(Adapter::open(&folder.path().join("none"))).contains("is no adapter"));
}

/// What is done to the tensors of an adapter.
type Change<'a> = dyn Fn(&mut BTreeMap<String, Tensor>) + 'a;

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let name = "model.layers.0.self_attn.q_proj";
    let [a, b] = tensor_names(name);
    let one = tensors(0.1, |other| other == name);
    let changed = |change: &Change<'_>| {
        let mut tensors = one.clone();
        change(&mut tensors);
        Folder::new(&tensors)
    };
    let zeros = |dims: [usize; 2]| Tensor::zeros(dims, DType::F32).unwrap();
    let bare = a.replacen("model.model.", "model.", 1);
    let cases: [(&Change<'_>, String); 7] = [
        (&|all| drop(all.remove(&a)), format!("tensor {a} is missing")),
        (&|all| drop(all.remove(&b)), format!("tensor {b} is missing")),
        (&BTreeMap::clear, "has no tensors".to_owned()),
        (&|all| drop(all.insert(b.clone(), zeros([256, 2]))), format!("tensor {a}: ")),
        (
            &|all| drop(all.insert("base_model.model.lm_head.lora_A.weight".to_owned(), zeros([3, 256]))),
            "belongs to no projection".to_owned(),
        ),
        (
            &|all| drop(all.insert(a.clone(), Tensor::full([3, 256], f32::NAN, DType::F32).unwrap())),
            "element 0 is not finite".to_owned(),
        ),
        (
            &|all| drop(all.insert(bare.clone(), zeros([3, 256]))),
            format!("tensor {a}: is there a second time"),
        ),
    ];
    for (change, fact) in cases {
        let error = changed(change).refused();
        assert!(error.contains(&fact) && error.contains(TENSORS), "{error}");
    }
    let folder = Folder::new(&one);
    fs::remove_file(folder.path().join(TENSORS)).unwrap();
    assert!(folder.refused().ends_with("has no adapter_model.safetensors"));
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let of = |module: &str, rows, cols| {
        let [a, b] = tensor_names(module);
        let zeros = |dims: [usize; 2]| Tensor::zeros(dims, DType::F32).unwrap();
        let tensors = BTreeMap::from([(a, zeros([RANK, cols])), (b, zeros([rows, RANK]))]);
        let folder = Folder::new(&tensors);
        refused(model().set_adapter(Adapter::open(&folder.path()).unwrap()))
    };
    let error = of("model.layers.4.mlp.up_proj", 768, 256);
    assert!(error.ends_with("adapts model.layers.4.mlp.up_proj; the model has 4 layers"), "{error}");
    let error = of("model.layers.1.self_attn.k_proj", 256, 256);
    assert!(
        error
            .contains("adapts model.layers.1.self_attn.k_proj of shape [256, 256]; the model has [128, 256]")
    );
}
