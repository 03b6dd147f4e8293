//! What the smaller types of a KV cache cost, in perplexity.

use std::path::{Path, PathBuf};

use bitnet_inference::backend::KvType;
use bitnet_inference::backend::cpu::CpuOptions;
use bitnet_inference::{Error, LoadOptions, LoadedModel};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn perplexity(model: Option<&Path>, kv_cache: KvType, text: &str, windows: usize) -> f64 {
    let cpu = CpuOptions { kv_cache, ..CpuOptions::default() };
    let options = LoadOptions { cpu, ..LoadOptions::default() };
    let model = match model {
        Some(model) => LoadedModel::open(model, &options),
        None => LoadedModel::embedded(&options),
    };
    model.unwrap().perplexity(text, 512, Some(windows), |_, _| Ok::<(), Error>(())).unwrap().perplexity
}

/// f16 within half a hundredth, int8 within a hundredth of the perplexity with float32: the noise of a few windows, in
/// which a rounding tie moves as much.
fn compare(name: &str, model: Option<&Path>, text: &str, windows: usize) {
    let [exact, f16, int8] = KvType::ALL.map(|kind| perplexity(model, kind, text, windows));
    println!("{name}: perplexity {exact:.4} with f32, {f16:.4} with f16, {int8:.4} with int8");
    assert!((f16 / exact - 1.0).abs() < 5e-3, "{name}: {f16} with f16, {exact} with f32");
    assert!((int8 / exact - 1.0).abs() < 1e-2, "{name}: {int8} with int8, {exact} with f32");
}

#[test]
fn smaller_types_cost_little_perplexity() {
    let text = "We hold these truths to be self-evident, that all men are created equal. ".repeat(40);
    compare("bitnet-tiny", None, &text, 1);
    let shared = root().join("../shared");
    let Ok(text) = std::fs::read_to_string(shared.join("data/wikitext2-test-200k.txt")) else {
        eprintln!("skipped bitnet-mini: {} is not there", shared.display());
        return;
    };
    compare("bitnet-mini", Some(&shared.join("models/bitnet-mini")), &text, 1);
}
